"""``loadtest/README.md``: every command in it runs, each for some seconds, against the simulated engine."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.loadtest.live.system import ROOT
from tests.redis_servers import free_port

README = (ROOT / "loadtest" / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
QUICK = {
    "everyday.yaml": "shape.users=8 shape.seconds=3 pace.mean_s=0.3 warm_up_s=0",
    "soak.yaml": "shape.users=8 shape.seconds=5 pace.mean_s=0.3",
    "knee.yaml": "shape.first=2 shape.most=4 shape.settle_s=1 shape.seconds=1 shape.least=1 pace.mean_s=0.1",
    "spike.yaml": "shape.users=2 shape.peak=9 shape.before_s=2 shape.spike_s=2 shape.after_s=1",
    "overload.yaml": "shape.users=2 shape.before_s=2 shape.overload_s=2 shape.after_s=1",
}
"""What makes a plan of minutes one of seconds."""


def quick(line: str, port: int) -> str:
    """Return a command that takes some seconds."""
    line = line.replace("8090", str(port)).replace("127.0.0.1:8089", f"127.0.0.1:{free_port()}")
    line = line.replace("127.0.0.1:9646", f"127.0.0.1:{free_port()}")
    line = re.sub(r"seconds=60", "seconds=3", line)
    for name, changes in QUICK.items():
        if name in line:
            line += "".join(f" --set {change}" for change in changes.split())
    if "loadtest run" in line or "--master " in line:
        line += " --set drain_s=5" + (
            "" if "everyday" in line or "knee" in line else " --set pace.mean_s=0.3"
        )
    if "--web " in line:
        line = f"timeout --preserve-status --signal INT 6 {line} --out loadtest/results/web"
    return line


def script(port: int) -> str:
    """Return all commands of the page, as one script that tells each one's status."""
    lines, master = [], free_port()
    for line in "".join(BLOCKS).splitlines():
        made = quick(line.partition(" #")[0].rstrip(), port)
        if made.endswith("&") or made.startswith("export"):
            lines.append(made)
            if "loadtest" not in made and made.endswith("&"):
                lines.append("sim=$!; sleep 4")
        elif "--master " in made:
            bound = f"--master-bind-host 127.0.0.1 --master-bind-port {master}"
            lines.append(f"{made} {bound} & master=$!; sleep 2")
        elif "--worker" in made:
            lines.append(f"{made} --master-port {master} & worker=$!")
            lines.append(f'wait $master; echo "status $? {line}"; wait $worker')
        else:
            lines.append(f'{made}; echo "status $? {line}"')
    return "\n".join([*lines, "kill $sim"])


def folder(tmp_path: Path) -> Path:
    """Return a folder that looks like the repository and has room for results."""
    (tmp_path / "loadtest" / "results").mkdir(parents=True)
    for name in ("plans", "slo.yaml", "slo-system.yaml", "slo-overload.yaml", "locustfile.py"):
        (tmp_path / "loadtest" / name).symlink_to(ROOT / "loadtest" / name)
    return tmp_path


@pytest.mark.integration
def test_every_command_runs(tmp_path: Path) -> None:
    """In their order, as a reader would type them; only verdicts and comparisons may find something."""
    paths = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = {**os.environ, "PATH": paths, "PYTHONPATH": str(ROOT)}
    command = ["timeout", "240", "bash", "-c", script(free_port())]  # which ends all of its processes
    with (tmp_path / "output").open("w") as output:
        subprocess.run(
            command, cwd=folder(tmp_path), env=environment, stdout=output, stderr=output, check=False
        )
    told = (tmp_path / "output").read_text()
    found = re.findall(r"^status (\d+) (.*)$", told, re.MULTILINE)
    statuses = {command: int(status) for status, command in found}
    assert len(statuses) == sum(len(block.splitlines()) for block in BLOCKS) - 3, told
    for line, status in statuses.items():
        judged = "--slo" in line or "compare" in line
        assert status in ({0, 1} if judged else {0}), f"{line}: {status}\n{told}"
    for name in ("first", "everyday", "knee", "spike", "overload", "two", "many", "soak", "refusals"):
        assert (tmp_path / "loadtest" / "results" / name / "report.html").exists(), f"{name}\n{told}"
