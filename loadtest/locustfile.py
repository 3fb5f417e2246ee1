"""What ``locust -f loadtest/locustfile.py`` loads: the users, the shape of the plan, and the results.

``gpt-oss-cluster loadtest run`` starts the same; loadtest/README.md shows both.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # Locust adds this folder, not its parent

from flask import Response, send_file
from gevent.pywsgi import WSGIServer
from locust import LoadTestShape, events
from locust.env import Environment

from loadtest.live import options, prompts, shapes
from loadtest.live.plan import Knee, PlanError
from loadtest.live.session import Process
from loadtest.live.users import Asker, Assignment, ChatUser, ResponsesUser, ToolsUser

__all__ = ["ChatUser", "PlannedShape", "ResponsesUser", "ToolsUser"]

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

events.init_command_line_parser.add_listener(options.add)


class PlannedShape(LoadTestShape):
    """The shape of the plan."""

    process: Process

    def tick(self) -> tuple[int, float] | None:
        """Return the users of this second, and how fast they come; None: the end."""
        users = self._users()
        if users is None:
            # Locust's own end of a shape would not wait for what its workers have still to tell
            assert self.runner is not None
            self.runner.stop()
            return None
        return users, float(max(users, 1))

    def _users(self) -> int | None:
        session = self.process.session
        if session is None:  # the test is about to start, and its users with it
            return None if self.process.failed else 1
        shape = session.options.plan.shape
        if isinstance(shape, Knee):
            assert session.finder is not None
            return session.finder.users(time.time())
        return shapes.timed(shape, time.perf_counter() - self.start_time)


def on_init(environment: Environment, **_: Any) -> None:
    """Read the plan and hand out the parts, before any user starts."""
    try:
        assert environment.parsed_options is not None
        told = options.read(environment.parsed_options)
    except PlanError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from error
    environment.host = told.base_url
    environment.stop_timeout = told.plan.drain_s
    process = PlannedShape.process = Process(environment, told)
    Asker.assignment = Assignment(told.plan, told.key, process.took)
    _weigh(environment, prompts.weights(told.plan.users))
    if told.metrics_listen is not None and process.decides:
        host, _colon, port = told.metrics_listen.rpartition(":")
        WSGIServer((host, int(port)), _endpoint(process), log=None).start()
    if environment.web_ui is not None:
        app = environment.web_ui.app
        assert app is not None
        app.add_url_rule("/metrics", "metrics", lambda: Response(process.metrics(), mimetype=_METRICS_TYPE))
        app.add_url_rule("/report", "report", lambda: _page(process))


events.init.add_listener(on_init)


def _weigh(environment: Environment, weights: dict[Any, float]) -> None:
    """Give each kind of user its weight; kinds that nobody is are left out."""
    kept = []
    for user in environment.user_classes:
        assert issubclass(user, Asker)
        if user.kind in weights:
            user.weight = weights[user.kind]
            kept.append(user)
    if not kept:
        sys.stderr.write("error: the plan's users and those chosen on the command line have none in common\n")
        raise SystemExit(2)
    environment.user_classes[:] = kept


def _page(process: Process) -> Response:
    if process.last is None:
        return Response("No test has ended yet.", status=404, mimetype="text/plain")
    return send_file((process.last.folder / "report.html").resolve())


def _endpoint(process: Process) -> Callable[..., list[bytes]]:
    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        if environ["PATH_INFO"] != "/metrics":
            start_response("404 Not Found", [("content-type", "text/plain")])
            return [b"/metrics only\n"]
        start_response("200 OK", [("content-type", _METRICS_TYPE)])
        return [process.metrics()]

    return serve
