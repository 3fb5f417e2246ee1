"""Run the stack, ask it one question as a client would, and end: what the zero-outbound tests trace.

``python -m tests.deploy.offline_stack gateway|demo|head FOLDER`` prints the answer. ``gateway``: the
gateway's process and the simulated engine. ``demo``: both pools of it on real Ray Serve. ``head``: Ray's head
alone, as KubeRay starts it, until it has looked at its usage settings; no answer.
"""

import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import openai
import yaml

from cluster.demo import document
from cluster.demo.document import State
from cluster.demo.machine import free_ports
from cluster.serving.sim import create_app
from cluster.settings import SimulatedEngine
from tests.conftest import start_demo, stop_demo, wait_for_demo
from tests.deploy.loopback import name_server
from tests.gateway.conftest import behind_prefix, serving

MODEL = "gpt-oss-20b"
REPORTS_OFF = "Usage reporting is disabled"


def ask(client: openai.OpenAI) -> str:
    """Return the answer to one question, streamed."""
    stream = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Hello"}], stream=True
    )
    return "".join(part.choices[0].delta.content or "" for part in stream if part.choices)


def with_demo(folder: Path) -> str:
    """Start the whole demo with the simulated engine; return the answer."""
    output = folder / "output.log"
    process = start_demo(folder / "state", "sim", output)
    demo = wait_for_demo(process, folder / "state", output)
    answer = ask(demo.client())
    demo.close()
    stop_demo(process)
    return answer


async def with_gateway(folder: Path) -> str:
    """Start a gateway before a simulated engine; return the answer."""
    state, ports = State(folder), free_ports()
    document.prepare(state)
    app = create_app(
        SimulatedEngine(ttft_ms=1, inter_token_ms=1),
        model=MODEL,
        replica="sim-1",
        engine_key=state.engine_key.read_text(),
        faults=False,
    )
    async with serving(behind_prefix(app)) as url:
        settings = document.document(state, "sim", ports, folder, folder)
        settings["serving"]["url"] = url
        state.config.write_text(yaml.safe_dump(settings))
        key = document.client_keys(state)["demo"]
        return await asyncio.to_thread(
            _through_gateway, state.config, f"http://127.0.0.1:{ports.gateway}/v1", key
        )


def _through_gateway(config: Path, url: str, key: str) -> str:
    gateway = subprocess.Popen([sys.executable, "-m", "cluster", "gateway", "--config", str(config)])
    try:
        with openai.OpenAI(base_url=url, api_key=key) as client:
            return _ask_when_up(client, gateway)
    finally:
        gateway.terminate()
        gateway.wait(timeout=20)


def _ask_when_up(client: openai.OpenAI, gateway: "subprocess.Popen[bytes]") -> str:
    deadline = time.monotonic() + 60
    while True:
        try:
            return ask(client)
        except openai.APIConnectionError:
            if gateway.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def with_head(folder: Path) -> str:
    """Start Ray's head with ``ray start``; return what its dashboard said of usage reports."""
    temporary = Path(tempfile.mkdtemp(prefix="ray-"))  # short: Ray's sockets have 107 characters for a path
    command = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", "--num-cpus=0"]
    where = ["--node-ip-address=127.0.0.1", "--port=0", f"--dashboard-port={free_ports().serve}"]
    head = subprocess.Popen([*command, *where, f"--temp-dir={temporary}"], stdout=sys.stderr)
    try:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and head.poll() is None:
            for log in temporary.glob("session_*/logs/dashboard*.log"):
                if REPORTS_OFF in log.read_text():
                    time.sleep(5)  # what it does about it comes next, and leaves no line
                    return REPORTS_OFF
            time.sleep(0.3)
        raise RuntimeError("Ray's dashboard did not start")
    finally:
        head.terminate()
        head.wait(timeout=60)
        shutil.rmtree(temporary, ignore_errors=True)


def main(kind: str, folder: Path) -> None:
    """Run one kind of stack."""
    with name_server(folder / "names"):
        if kind == "gateway":
            answer = asyncio.run(with_gateway(folder))
        else:
            answer = with_demo(folder) if kind == "demo" else with_head(folder)
    sys.stdout.write(answer)
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
