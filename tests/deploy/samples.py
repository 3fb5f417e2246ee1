"""The samples of ``docs/operations.md``: ``python -m tests.deploy.samples`` writes them anew."""

import os
import re
import tempfile
from pathlib import Path
from unittest import mock

from typer.testing import CliRunner

from cluster.cli import app
from cluster.cli import drain as drain_command
from cluster.cli import status as status_command
from tests.deploy.recorded import load, now, put
from tests.kube.api import KubernetesApi, in_thread

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "operations.md"
WIDTH = "118"
_SAMPLE = re.compile(r"(<!-- sample: (\S+) -->\n```console\n)(.*?)(```)", re.DOTALL)


def page() -> str:
    """Return the page, with each command's output as it is now."""
    return _SAMPLE.sub(lambda found: found[1] + _run(found[2], found[3]) + found[4], PAGE.read_text())


def _run(record: str, block: str) -> str:
    commands = [line for line in block.splitlines() if line.startswith("$ ")]
    kube = KubernetesApi()
    kube.add_namespace("ai")
    found = load("releases/ready" if record == "nothing" else record)
    if record != "nothing":
        put(kube, found)
    with (
        in_thread(kube),
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(status_command, "_now", lambda: now(found)),
        mock.patch.object(drain_command, "_now", lambda: now(found)),
        mock.patch.dict(os.environ, {"COLUMNS": WIDTH}),
    ):
        way = ["--kubeconfig", str(kube.kubeconfig(Path(folder) / "kubeconfig", namespace="ai"))]
        return "".join(f"{command}\n{_printed([*command.split()[2:], *way])}" for command in commands)


def _printed(arguments: list[str]) -> str:
    lines = CliRunner().invoke(app, arguments).stdout.splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page())
