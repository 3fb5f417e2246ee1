"""What a Locust process is told on its command line or in its environment, read and checked."""

import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loadtest.live import plan as plans
from loadtest.live import slo
from loadtest.live.plan import Plan, PlanError
from loadtest.live.slo import Objectives
from loadtest.machine import ROOT

URL_VARIABLE = "OPENAI_BASE_URL"
KEY_VARIABLE = "OPENAI_API_KEY"
RESULTS = ROOT / "loadtest" / "results"
"""Where runs go unless told otherwise; git ignores them."""


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that a test needs to know."""

    plan: Plan
    objectives: Objectives | None
    base_url: str
    """Up to and with ``/v1``, like OpenAI's SDK takes it."""
    key: str = field(repr=False)
    out: Path
    settings: Path | None = None
    watch: tuple[str, ...] = ()
    """Addresses of the target's own metrics."""
    metrics_listen: str | None = None
    """``host:port`` of ``/metrics``; None: only the web UI has it."""


def add(parser: Any) -> None:
    """Add the options to Locust's own."""
    hidden = {"include_in_web_ui": False}
    parser.add_argument("--plan", default="", help="The plan, a YAML file; none: the default one.", **hidden)
    parser.add_argument("--slo", default="", help="The objectives, a YAML file; none: no verdict.", **hidden)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        help="Change the plan, as in shape.users=50; repeatable.",
        **hidden,
    )
    parser.add_argument("--out", default="", help="Folder for the results.", **hidden)
    parser.add_argument(
        "--settings", default="", help="The target's settings document, to be hashed.", **hidden
    )
    parser.add_argument(
        "--watch", action="append", default=[], help="Address of a gateway's /metrics; repeatable.", **hidden
    )
    parser.add_argument(
        "--metrics-listen", default="", help="host:port for /metrics; none: no port.", **hidden
    )


def read(parsed: Namespace, environ: Mapping[str, str] = os.environ) -> Options:
    """Read everything that was told. Raises `PlanError` that says what is wrong."""
    base_url, key = parsed.host or environ.get(URL_VARIABLE, ""), environ.get(KEY_VARIABLE, "")
    if not base_url.startswith(("http://", "https://")):
        raise PlanError(
            f"no target: set {URL_VARIABLE} to the API's address, up to and with /v1, or give --host"
        )
    if not key:
        raise PlanError(f"no key: set {KEY_VARIABLE} to an API key of the target")
    for address in parsed.watch:
        if not address.startswith(("http://", "https://")):
            raise PlanError(
                f"--watch {address}: it must be the address of a gateway's metrics, http://…/metrics"
            )
    plan, objectives = check(_path(parsed.plan), parsed.set, _path(parsed.slo))
    return Options(
        plan=plan,
        objectives=objectives,
        base_url=base_url.rstrip("/"),
        key=key,
        out=_path(parsed.out) or RESULTS / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"),
        settings=_path(parsed.settings),
        watch=tuple(parsed.watch),
        metrics_listen=parsed.metrics_listen or None,
    )


def check(
    plan: Path | None, changes: Sequence[str], objectives: Path | None
) -> tuple[Plan, Objectives | None]:
    """Return plan and objectives. Raises `PlanError` that says what is wrong with them."""
    read = plans.load(plan, changes)
    judged = None if objectives is None else slo.load(objectives)
    if judged is None:
        if read.shape.kind == "knee":
            raise PlanError("the shape knee needs objectives to break: give --slo FILE")
    else:
        judged.only([effort for effort, share in read.efforts.items() if share])
    return read, judged


def _path(told: str) -> Path | None:
    return Path(told) if told else None
