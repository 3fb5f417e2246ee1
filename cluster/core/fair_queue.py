"""Who goes next of those that wait: the earliest deadline, within what is fair between tenants.

Tickets of one tenant and one value go by deadline. Between tenants, of tickets of the same value, the tenant
goes first that got the fewest expected tokens while others waited, its *virtual time*: in one value
deadlines are much the same, so fairness costs them nothing. Between values the earliest deadline goes first,
but only of tenants that are not ahead of the one served least by more than a window of tokens. So deadlines
decide while tenants are about even, and fairness decides once they are not (like EEVDF, with real deadlines;
virtual times as in start-time fair queueing, Goyal et al. 1996). A tenant that comes back starts at the
virtual time of the one served least: nobody saves up, and what was taken while nobody waited is not held
against anyone.
"""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush


class Ticket:
    """One request that asks to go in. Times are the caller's clock; ``state`` is a room's to change."""

    __slots__ = (
        "deadline_s",
        "due_s",
        "expires_s",
        "offered_s",
        "size_bytes",
        "state",
        "tenant",
        "tokens",
        "value",
        "yields",
    )

    def __init__(
        self,
        *,
        tenant: str,
        value: int,
        deadline_s: float,
        tokens: float,
        due_s: float | None = None,
        size_bytes: int = 0,
        yields: bool = False,
    ) -> None:
        self.tenant = tenant
        self.value = value
        """What a request is worth where some must be refused: the lowest goes first. Few values, please:
        each is a lane of its own, in which deadlines are taken to be much the same distance away."""
        self.deadline_s = deadline_s
        """When it must be inside."""
        self.due_s = deadline_s if due_s is None else due_s
        """What it is ordered by: its deadline, or before it by right of its tier."""
        self.tokens = tokens
        """Output tokens expected of it, which is what tenants share."""
        self.size_bytes = size_bytes
        """Memory that it holds while it waits."""
        self.yields = yields
        """Whether it leaves the last free slots to others: it can wait, and then keeps its slot for long."""
        self.offered_s = self.expires_s = 0.0
        self.state = "new"
        """``new``, ``waiting``, ``inside`` or ``gone``."""

    @property
    def waits(self) -> bool:
        """Whether it is in the queue."""
        return self.state == "waiting"


class TicketHeap:
    """Waiting tickets by a time; those that no longer wait are skipped, and swept out once they are many."""

    __slots__ = ("_dead", "_heap", "_pushed")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Ticket]] = []
        self._pushed = self._dead = 0

    def push(self, key: float, ticket: Ticket) -> None:
        """Add a ticket; of equal keys the first one pushed comes first."""
        self._pushed += 1
        heappush(self._heap, (key, self._pushed, ticket))

    def first(self) -> Ticket | None:
        """Return the ticket with the lowest key; None when none waits."""
        heap = self._heap
        while heap:
            if heap[0][2].waits:
                return heap[0][2]
            heappop(heap)
            self._dead = max(0, self._dead - 1)
        return None

    def last(self) -> Ticket | None:
        """Return a ticket of the later half, the last one where they came in order; None when none waits."""
        heap = self._heap
        while heap:
            if heap[-1][2].waits:
                return heap[-1][2]
            heap.pop()
            self._dead = max(0, self._dead - 1)
        return None

    def note_gone(self) -> None:
        """Take note that one ticket waits no longer."""
        self._dead += 1
        if self._dead * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].waits]
            heapify(self._heap)
            self._dead = 0

    def __len__(self) -> int:
        """Entries held, those of tickets that no longer wait included."""
        return len(self._heap)


class _Tenant:
    """One tenant: its virtual time, and its waiting tickets by value."""

    __slots__ = ("count", "lanes", "listed", "tokens", "virtual")

    def __init__(self, virtual: float) -> None:
        self.virtual = virtual
        self.lanes: dict[int, TicketHeap] = {}
        self.listed: dict[int, float] = {}
        """The virtual time at which each lane has the tenant in its list."""
        self.count = 0
        self.tokens = 0.0


class FairQueue:
    """Waiting tickets of one room. Each call is O(log n) amortised, but `victim`, which is O(tenants)."""

    def __init__(self) -> None:
        self._tenants: dict[str, _Tenant] = {}
        self._lanes: dict[int, list[tuple[float, int, _Tenant]]] = {}
        """By value: tenants with tickets there, by virtual time; entries may be out of date."""
        self._pushed = 0
        self._virtual = 0.0
        """Virtual time of the tenant served least; never falls while anyone waits."""
        self._largest = 0.0
        self.count = 0
        """Tickets that wait."""
        self.size_bytes = 0
        """Memory that they hold."""
        self.tokens: dict[int, float] = {}
        """Expected tokens that wait, by value."""

    def push(self, ticket: Ticket) -> None:
        """Let a ticket wait."""
        tenant = self._tenants.get(ticket.tenant)
        if tenant is None:
            tenant = self._tenants[ticket.tenant] = _Tenant(self._virtual)
        elif tenant.count == 0:
            tenant.virtual = max(tenant.virtual, self._virtual)
        ticket.state = "waiting"
        if ticket.value not in tenant.lanes:
            tenant.lanes[ticket.value] = TicketHeap()
        tenant.lanes[ticket.value].push(ticket.due_s, ticket)
        self._count(tenant, ticket, 1)
        self._largest = max(self._largest, ticket.tokens)
        self._list(tenant, ticket.value)

    def next(self, window_tokens: float, *, last_slots: bool = False) -> Ticket | None:
        """Return who goes next, who stays until `serve` or `drop`; None when nobody waits.

        ``window_tokens`` is how far a tenant may be ahead before deadlines count no more for it; twice the
        largest ticket at least. The ``last_slots`` are not for who yields.
        """
        tops = list(self._tops())
        if not tops:
            return None
        least = min(tenant.virtual for tenant, _ in tops)
        self._virtual = max(self._virtual, least)
        if last_slots:
            tops = [(tenant, ticket) for tenant, ticket in tops if not ticket.yields]
            if not tops:
                return None
            least = min(tenant.virtual for tenant, _ in tops)
        edge = max(self._virtual, least) + max(window_tokens, 2 * self._largest)
        fair = [ticket for tenant, ticket in tops if tenant.virtual <= edge]
        return min(fair, key=_when_due)

    def serve(self, ticket: Ticket) -> None:
        """Take out a ticket that goes inside, at its tenant's expense."""
        tenant = self._tenants[ticket.tenant]
        tenant.virtual += ticket.tokens
        self.drop(ticket, state="inside")
        for value, lane in tenant.lanes.items():
            if lane.first() is not None:
                self._list(tenant, value)

    def drop(self, ticket: Ticket, *, state: str = "gone") -> None:
        """Take out a ticket that waits no longer."""
        tenant = self._tenants[ticket.tenant]
        ticket.state = state
        lane = tenant.lanes[ticket.value]
        lane.note_gone()
        if lane.first() is None:
            del tenant.lanes[ticket.value]
        self._count(tenant, ticket, -1)
        if self.count == 0:
            self._forget()

    def victim(self, newcomer: Ticket) -> Ticket:
        """Return whose place is given up for ``newcomer``; itself where nobody is worth less.

        The tenant with the most tokens waiting gives, of its tickets the lowest value, the latest of those.
        """
        mine = self._tenants.get(newcomer.tenant)
        giver = max(self._tenants.values(), key=lambda tenant: tenant.tokens, default=None)
        if giver is None or newcomer.tokens + (mine.tokens if mine else 0.0) >= giver.tokens:
            giver = mine
        if giver is None or not giver.lanes:
            return newcomer
        lowest = min(giver.lanes)
        if giver is mine and newcomer.value <= lowest:
            return newcomer
        return giver.lanes[lowest].last() or newcomer

    def tokens_of(self, tenant: str) -> float:
        """Return the expected tokens that wait of one tenant."""
        known = self._tenants.get(tenant)
        return known.tokens if known else 0.0

    @property
    def tenants(self) -> int:
        """Tenants that are remembered."""
        return len(self._tenants)

    @property
    def entries(self) -> int:
        """Entries of all its heaps, out of date ones included; O(tenants)."""
        lanes = sum(len(lane) for tenant in self._tenants.values() for lane in tenant.lanes.values())
        return lanes + sum(len(lane) for lane in self._lanes.values())

    def prune(self) -> None:
        """Forget tenants that neither wait nor are ahead of others; O(tenants), for once a second."""
        gone = [
            name
            for name, tenant in self._tenants.items()
            if tenant.count == 0 and tenant.virtual <= self._virtual
        ]
        for name in gone:
            del self._tenants[name]

    def _tops(self) -> Iterator[tuple[_Tenant, Ticket]]:
        """Give, of each value, the tenant served least and its first ticket."""
        for value, heap in list(self._lanes.items()):
            while heap:
                virtual, _, tenant = heap[0]
                lane = tenant.lanes.get(value)
                ticket = lane.first() if lane is not None and virtual == tenant.virtual else None
                if ticket is not None:
                    yield tenant, ticket
                    break
                heappop(heap)
                if tenant.listed.get(value) == virtual:
                    del tenant.listed[value]
            else:
                del self._lanes[value]

    def _list(self, tenant: _Tenant, value: int) -> None:
        if tenant.listed.get(value) == tenant.virtual:
            return
        self._pushed += 1
        tenant.listed[value] = tenant.virtual
        heappush(self._lanes.setdefault(value, []), (tenant.virtual, self._pushed, tenant))

    def _count(self, tenant: _Tenant, ticket: Ticket, sign: int) -> None:
        tenant.count += sign
        tenant.tokens += sign * ticket.tokens
        self.count += sign
        self.size_bytes += sign * ticket.size_bytes
        self.tokens[ticket.value] = self.tokens.get(ticket.value, 0.0) + sign * ticket.tokens

    def _forget(self) -> None:
        self._tenants.clear()
        self._lanes.clear()
        self.tokens.clear()
        self._virtual = self._largest = 0.0


def _when_due(ticket: Ticket) -> float:
    """Return what tickets of different values are ordered by: when due, plus the time that they were given.

    Ordered by when they are due alone, all would wait until then in an overload: what had long to wait is due
    at last, comes before what has just come, and that in turn is late.
    """
    return ticket.due_s + (ticket.deadline_s - ticket.offered_s)
