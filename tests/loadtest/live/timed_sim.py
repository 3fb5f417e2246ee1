"""The simulated engine as a process that notes, by its own clock, when it wrote each token of its answers.

``python -m tests.loadtest.live.timed_sim OPTIONS``, JSON with ``port``, ``log``, ``key_file`` and ``engine``,
its settings. Each line of the log is one request: ``id`` as the gateway gave it, and the times from its
arrival to every event that carried a token.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import IO, Any

import uvicorn

from cluster.serving.sim import create_app
from cluster.serving.sim.app import SimulatedApp
from cluster.serving.sim.clock import SystemClock
from cluster.settings import SimulatedEngine

MODEL = "gpt-oss-120b"
_TOKENS = {
    b'"delta":{"content":"': "answer",
    b'"delta":{"reasoning":"': "reasoning",
    b'"type":"response.output_text.delta"': "answer",
    b'"type":"response.reasoning_text.delta"': "reasoning",
}


class Timed:
    """The app under the pool's path, with a note of each answer."""

    def __init__(self, app: SimulatedApp, clock: SystemClock, log: IO[str]) -> None:
        self._app, self._clock, self._log = app, clock, log

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request, whatever its first path segment."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        arrived_s = self._clock.monotonic()
        events: list[tuple[str, float]] = []

        async def note(message: Any) -> None:
            body = message.get("body", b"")
            kinds = [kind for token, kind in _TOKENS.items() if token in body and b'"role"' not in body]
            events.extend((kind, self._clock.monotonic() - arrived_s) for kind in kinds)
            await send(message)

        pool = "/" + scope["path"].split("/")[1]
        try:
            await self._app({**scope, "root_path": pool}, receive, note)
        finally:
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            self._log.write(json.dumps({"id": headers.get("x-request-id", ""), "events": events}) + "\n")
            self._log.flush()


def main(options: dict[str, Any]) -> None:
    """Serve until the process is told to stop."""
    clock = SystemClock()
    key = Path(options["key_file"]).read_text().strip()
    engine = SimulatedEngine.model_validate(options["engine"])
    app = create_app(engine, model=MODEL, replica="sim-1", engine_key=key, clock=clock)
    with Path(options["log"]).open("w") as log:
        config = uvicorn.Config(
            Timed(app, clock, log), port=options["port"], log_level="warning", access_log=False
        )
        asyncio.run(uvicorn.Server(config).serve())


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
