"""Ray Serve as the product runs it, in a process of its own that obeys.

``python -m tests.faults.serving CONFIG`` reports each step as a line of JSON on standard output, as
the demo's does. Then it reads commands as lines of JSON on standard input: a settings document is deployed,
anything else is answered with Serve's status.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

from cluster import settings
from cluster.serving import deploy, local


def main(config: Path) -> None:
    """Start, then obey until standard input ends."""
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for step in local.start(settings.load(config)):
        _tell(events, {"application": step.application, "status": step.status})
    _tell(events, {"ready": True})
    for line in sys.stdin:
        try:
            _tell(events, _obey(json.loads(line)))
        except Exception as error:  # whatever Ray has lost just now: who asked decides what it means
            _tell(events, {"error": f"{type(error).__name__}: {error}"})


def _obey(command: dict[str, Any]) -> dict[str, Any]:
    from ray import serve  # noqa: PLC0415 - reads the environment that `local.start` sets
    from ray.serve.context import _get_global_client  # noqa: PLC0415 - the same
    from ray.serve.schema import ServeDeploySchema  # noqa: PLC0415 - the same

    if document := command.get("deploy"):
        declared = deploy.deploy_config(settings.parse(document, origin="the command"), host=local.HOST)
        client = _get_global_client()
        assert client is not None, "it was started"
        client.deploy_apps(ServeDeploySchema.model_validate(declared))
        return {"deployed": True}
    applications = serve.status().applications
    return {
        name: {
            "status": overview.status.value,
            "running": {
                deployment: {str(state): count for state, count in one.replica_states.items()}.get(
                    "RUNNING", 0
                )
                for deployment, one in overview.deployments.items()
            },
        }
        for name, overview in applications.items()
    }


def _tell(events: TextIO, step: dict[str, Any]) -> None:
    events.write(json.dumps(step) + "\n")
    events.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
