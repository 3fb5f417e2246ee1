"""Stalls of what runs in the pods: weights, the Ray token, and what replicas say when they do not start."""

import re
from collections.abc import Iterator

from cluster.vocabulary import FILE_NAME
from deploy.names import COMPONENT_LABEL
from deploy.objects import at, condition, is_true, label, name, statuses
from deploy.release import Release, cluster
from deploy.stalls.words import (
    Stall,
    events,
    last_words,
    match,
    of_token,
    one_line,
)

_HASH = re.compile(r"sha-?256|checksum|hash|digest", re.IGNORECASE)


def prefetch(release: Release) -> Iterator[Stall]:
    """Tell why the weights are not copied: by the last words of the Job's log."""
    for job in release.jobs:
        failed = is_true(job, "Failed")
        if label(job, COMPONENT_LABEL) != "prefetch" or not (failed or _ended(release)):
            continue
        ends = [words for pod in release.component("prefetch") for words in last_words(pod)]
        told = release.prefetch_log.strip() or (ends[-1] if ends else "")
        last = str(condition(job, "Failed").get("message") or "it died without a word")
        if told:
            last = told.splitlines()[-1].removeprefix("error: ")
        again = f"then delete Job {name(job)} and run helm upgrade" if failed else "the Job goes on by itself"
        if _HASH.search(last):
            yield Stall(
                "hash-mismatch",
                f"the weights are not what their manifest says: {one_line(last)}",
                f"Put the right file into the bundle; {again}",
                True,
            )
        else:
            yield Stall(
                "prefetch-failed",
                f"the prefetch of the weights failed: {one_line(last)}",
                f"Mend what it names; {again}",
                failed,
            )


def _ended(release: Release) -> bool:
    """Whether a prefetch pod has ended with an error, and waits to be tried again."""
    found = (status for pod in release.component("prefetch") for status, _ in statuses(pod))
    ends = ((at(status, "lastState", "terminated"), at(status, "state", "waiting")) for status in found)
    return any(ended and waiting and ended.get("exitCode") for ended, waiting in ends)


_VOCABULARY = r"(the Harmony vocabulary \S+ (?:is missing|has SHA-256 \S+)|no vocabulary)"
_CHECKPOINT = r"CheckpointError: ([^\n]+)"


def token(release: Release) -> Iterator[Stall]:
    """Tell that parts of Ray hold different tokens."""
    told = [str(event.get("message")) for event in events(release, {"FailedToUpdateServeApplications"})]
    told += [words for pod in release.pods if cluster(pod) for words in last_words(pod)]
    if any(of_token(words) for words in told):
        yield Stall(
            "ray-token",
            "Ray refuses a token: pods or the operator hold another than the head was started with",
            f"Tokens are read at start: after a change of Secret {release.fullname}-ray-auth suspend the "
            "RayService and resume it",
            True,
        )


def applications(release: Release) -> Iterator[Stall]:
    """Tell what replicas said when they failed to start, as the operator passes it on."""
    for side in ("pending", "active"):
        known = at(release.ray_service, "status", f"{side}ServiceStatus", "applicationStatuses") or {}
        for application, state in known.items():
            parts = [state, *(state.get("serveDeploymentStatuses") or {}).values()]
            told = "\n".join(str(part.get("message") or "") for part in parts)
            failed = any(part.get("status") in {"DEPLOY_FAILED", "UNHEALTHY"} for part in parts)
            if failed or "failed to start" in told:
                yield _application(application, told, failed)


def _application(application: str, told: str, failed: bool) -> Stall:
    stays_down = f"replicas of {application} do not start"
    if FILE_NAME in told or "no vocabulary" in told:
        return Stall(
            "vocabulary-missing",
            f"{stays_down}: {match(_VOCABULARY, told)}",
            "Use the engine image that holds it, or put the published file where serving.vocabulary_dir says",
            True,
        )
    if "out of memory" in told.lower():
        return Stall(
            "gpu-out-of-memory",
            f"replicas of {application} ran out of GPU memory",
            "Lower max_model_len or max_num_seqs of the pool, or end what else uses the GPU (nvidia-smi)",
            True,
        )
    if "CheckpointError" in told:
        return Stall(
            "weights-incomplete",
            f"{stays_down}: {match(_CHECKPOINT, told)}",
            "Let the prefetch Job check the weights again",
            True,
        )
    lines = [line for line in told.splitlines() if line.strip()]
    return Stall(
        "replica-fails",
        f"{stays_down}: {one_line(lines[-1] if lines else 'they do not say why')}",
        "Look into the logs of a worker pod",
        failed,
    )
