"""Which address a request comes from, and which addresses count as one. Pure."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_HOPS = 16
"""Proxies in a row that are looked past; a client may pretend to thousands."""
_MAX_CHARACTERS = 64
"""Longer than any address with its port."""
_CHOSEN_BITS = 64
"""Low bits of an IPv6 address that its holder is free to choose."""


def client_address(peer: str, forwarded: str, trusted: Sequence[Network]) -> Address | None:
    """Return the address of the client behind trusted proxies; None where ``peer`` is no IP address.

    ``peer`` is the other end of the connection. Each proxy adds to ``forwarded`` (``X-Forwarded-For``), on
    the right, the address that called it. Read from there, an address is believed if a trusted proxy wrote
    it, and the first that is no trusted proxy is the client's. Where a proxy wrote what is no address, the
    search ends with the proxy itself.
    """
    found = _address(peer)
    hops = forwarded.rsplit(",", MAX_HOPS)[-MAX_HOPS:]
    while found is not None and hops and any(found in network for network in trusted):
        before = _address(hops.pop())
        if before is None:
            break
        found = before
    return found


def counted_as(address: Address | None) -> int:
    """Return what stands for an address where requests are counted: one number for a whole IPv6 /64.

    Its holder has all of that, and could call from another address each time.
    """
    if address is None:
        return -1
    return int(address) if address.version == 4 else (int(address) >> _CHOSEN_BITS) + (1 << 32)


def parse_network(text: str) -> Network:
    """Parse an address or a network. Raises `ValueError`, which says what is wrong."""
    return ip_network(text)


def _address(text: str) -> Address | None:
    """Parse ``1.2.3.4``, ``1.2.3.4:80``, ``::1``, ``[::1]`` or ``[::1]:80``; None for anything else."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    if len(text) > _MAX_CHARACTERS or "%" in text:  # a zone is any text, and says nothing here
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
