"""What every rule needs: the shape of a stall, events of the present, and objects in words."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from deploy.api import Object
from deploy.names import COMPONENT_LABEL, GROUP_LABEL, NODE_TYPE_LABEL
from deploy.objects import age_s, at, condition, containers, label, moment, name, statuses
from deploy.release import Release, cluster

PATIENCE_S = 300.0
"""Seconds after which what might mend itself (a free GPU, an image's registry) counts as not doing so."""
OPERATOR_S = 60.0
"""Seconds that a controller may take to act on an object."""
RESTARTS = 3
"""Restarts after which a container will not come up by itself."""
EVENT_S = 600.0
"""Seconds for which an event tells of the present: controllers repeat what still fails."""

_TOKEN = re.compile(
    r"authentication token is (?:invalid|incorrect)|no authentication token was found|"
    r"fail: 40[13]|AuthenticationError|[Uu]nauthenticated"
)


@dataclass(frozen=True, slots=True)
class Stall:
    """One cause."""

    code: str
    what: str
    mend: str
    lasting: bool
    """Whether waiting is in vain."""

    def __str__(self) -> str:
        return f"{self.what}. {self.mend}"


def events(release: Release, reasons: set[str] | None, about: Object | None = None) -> list[Object]:
    """Return events of the present with these reasons, the latest last, on one object or on the release's."""
    found = []
    for event in release.events:
        subject = str(at(event, "involvedObject", "name"))
        mine = subject == name(about) if about else _ours(release, subject)
        made = at(event, "metadata", "creationTimestamp")
        told = event.get("lastTimestamp") or event.get("eventTime") or made
        wanted = reasons is None or event.get("reason") in reasons
        if mine and wanted and age_s(told, release.now) <= EVENT_S:
            found.append((moment(told), event))
    return [event for _, event in sorted(found, key=lambda pair: str(pair[0]))]


def _ours(release: Release, subject: str) -> bool:
    """Whether a name is that of one of the release's objects, or of a ReplicaSet of its Deployments."""
    owners = (*release.ray_clusters, *release.deployments, *release.stateful_sets, *release.jobs)
    if subject in {release.fullname, *map(name, owners)}:
        return True
    return any(subject.startswith(f"{name(each)}-") for each in release.deployments)


def about(event: Object) -> str:
    """Return the object of an event in words."""
    return f"{at(event, 'involvedObject', 'kind')} {at(event, 'involvedObject', 'name')}"


def pod_words(pod: Object) -> str:
    """Return what a pod is, in words, and its name."""
    kind = label(pod, NODE_TYPE_LABEL) if cluster(pod) else label(pod, COMPONENT_LABEL)
    group = f" of group {label(pod, GROUP_LABEL)}" if kind == "worker" else ""
    return f"{kind or 'pod'}{group} {name(pod)}"


def last_words(pod: Object) -> Iterator[str]:
    """Yield what containers that ended, and are not ready again, left in their termination message."""
    for status, _ in statuses(pod):
        if status.get("ready"):
            continue
        for state in ("lastState", "state"):
            if words := at(status, state, "terminated", "message"):
                yield str(words).strip()


def memory_limit(pod: Object, container: str) -> str:
    """Return a container's memory limit in words."""
    found = next((each for each in containers(pod["spec"]) if each.get("name") == container), {})
    return str(at(found, "resources", "limits", "memory") or "the node")


def never_again(pod: Object) -> bool:
    """Whether the pod stays down once it has ended."""
    return bool(at(pod, "spec", "restartPolicy") == "Never")


def aged_s(release: Release, item: Object) -> float:
    """Return the seconds since an object was made."""
    return age_s(at(item, "metadata", "creationTimestamp"), release.now)


def scheduler_words(pod: Object) -> str:
    """Return the scheduler's words, without what it says of preemption."""
    return one_line(
        str(condition(pod, "PodScheduled").get("message") or "").split(". preemption:")[0].rstrip(".")
    )


def match(pattern: str, text: str) -> str:
    """Return a pattern's first group in a text, else the text."""
    found = re.search(pattern, text)
    return found[1].strip() if found else one_line(text)


def one_line(text: object, most: int = 240) -> str:
    """Return text as one line of bounded length, without a full stop."""
    flat = " ".join(str(text or "").split())
    return (flat if len(flat) <= most else f"{flat[: most - 1]}…").rstrip(".")


def of_token(words: str) -> bool:
    """Whether Ray or its dashboard speaks of a token that it does not take."""
    return _TOKEN.search(words) is not None
