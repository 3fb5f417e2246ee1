"""Who may do what: tokens that a test makes up, and service accounts, whose rights are roles in the store."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from tests.kube.kinds import Kind
from tests.kube.status import ApiError, Object
from tests.kube.store import Store


@dataclass(frozen=True)
class Action:
    """What a request would do."""

    verb: str
    group: str
    resource: str
    """Plural, with a subresource as ``pods/log``."""
    namespace: str | None
    name: str | None


class Caller(Protocol):
    """Holder of a token."""

    @property
    def user(self) -> str:
        """Name, as refusals tell it."""

    def may(self, action: Action, store: Store) -> bool:
        """Whether it has the right."""


@dataclass(frozen=True)
class Role:
    """What the holder of a token may do, as a test says."""

    user: str
    verbs: frozenset[str]
    names: frozenset[str] | None = None
    """Objects that it may touch; None: all."""
    resources: frozenset[str] | None = None
    """Plurals; None: all."""

    def may(self, action: Action, store: Store) -> bool:
        """Whether verb, resource and name are among its own."""
        return (
            action.verb in self.verbs
            and (self.resources is None or action.resource in self.resources)
            and (self.names is None or action.name in self.names)
        )


@dataclass(frozen=True)
class Account:
    """A service account: it may what the roles that are bound to it say."""

    namespace: str
    name: str

    @property
    def user(self) -> str:
        """Name, as refusals tell it."""
        return f"system:serviceaccount:{self.namespace}:{self.name}"

    def may(self, action: Action, store: Store) -> bool:
        """Whether a rule of a role that is bound to it fits."""
        return any(_fits(rule, action) for rule in self._rules(action, store))

    def _rules(self, action: Action, store: Store) -> Iterator[Object]:
        for kind, binding in store.all():
            cluster = kind.kind == "ClusterRoleBinding"
            space = binding["metadata"].get("namespace")
            if not cluster and (kind.kind != "RoleBinding" or space != action.namespace):
                continue
            if not any(self._is(subject, space) for subject in binding.get("subjects") or ()):
                continue
            reference = binding["roleRef"]
            for other, role in store.all():
                same = (other.kind, role["metadata"]["name"]) == (reference["kind"], reference["name"])
                if same and role["metadata"].get("namespace") in (None, space):
                    yield from role.get("rules") or ()

    def _is(self, subject: Object, namespace: str | None) -> bool:
        if subject.get("kind") != "ServiceAccount":
            return False
        return (subject.get("namespace") or namespace, subject.get("name")) == (self.namespace, self.name)


ADMIN = Role(
    "admin", frozenset({"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"})
)


def require(caller: Caller, action: Action, kind: Kind, store: Store) -> None:
    """Raise `ApiError` where a right is missing."""
    if caller.may(action, store):
        return
    thing = kind.resource if action.name is None else f'{kind.resource} "{action.name}"'
    where = f'in the namespace "{action.namespace}"' if action.namespace else "at the cluster scope"
    raise ApiError(
        403,
        "Forbidden",
        f'{thing} is forbidden: User "{caller.user}" cannot {action.verb} resource "{action.resource}" '
        f'in API group "{action.group}" {where}',
    )


def _fits(rule: Object, action: Action) -> bool:
    names = rule.get("resourceNames") or []
    return (
        bool({action.verb, "*"} & set(rule.get("verbs") or ()))
        and bool({action.group, "*"} & set(rule.get("apiGroups") or ()))
        and bool({action.resource, "*"} & set(rule.get("resources") or ()))
        and (not names or action.name in names)
    )
