"""Load tests as a user starts them, against the gateway's process and the simulated engine."""

import json
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

import orjson
import pytest

from loadtest.live import records
from loadtest.live.records import Record
from tests.loadtest.live.system import ROOT, System, system
from tests.redis_servers import free_port

pytestmark = pytest.mark.integration

ENGINE = {
    "ttft_ms": 400,
    "inter_token_ms": 40,
    "inter_token_per_request_ms": 0,
    "slots": 200,
    "reasoning_tokens": {"low": 8, "medium": 15, "high": 30},
    "answer_tokens": 12,
}
SHORT = ("conversation.max_turns=2", "pace.mean_s=0.5")
TOGETHER = ("shape.users=12", "shape.seconds=6", *SHORT)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Return a system with room for everybody."""
    with system(tmp_path_factory.mktemp("system"), engine=ENGINE) as found:
        yield found


def command(*options: str, changes: tuple[str, ...] = ()) -> list[str]:
    """Return a load test's command line."""
    settings = [part for change in changes for part in ("--set", change)]
    return [sys.executable, "-m", "cluster", "loadtest", *options, *settings]


def run(
    live: System, *options: str, changes: tuple[str, ...] = TOGETHER, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run a load test to its end."""
    return ended(live, command("run", *options, changes=changes), **environment)


def ended(live: System, line: list[str], **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, as a user of the system does."""
    return subprocess.run(
        line,
        cwd=ROOT,
        env={**live.environment(), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def write(folder: Path, objectives: dict[str, Any]) -> str:
    """Write objectives for low effort and return the path."""
    path = folder / "slo.yaml"
    path.write_text(json.dumps({"efforts": {"low": objectives}, "least": 3}))
    return str(path)


@pytest.fixture(scope="module")
def steady(live: System, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a short steady run, which must have held."""
    folder = tmp_path_factory.mktemp("steady")
    slo = write(folder, {"ttft_s": {"p95": 5}, "error_share": 0})
    done = run(live, "--out", str(folder / "run"), "--slo", slo)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run"


def read(folder: Path) -> list[Record]:
    """Return a run's records."""
    return list(records.read(folder / "requests.jsonl"))


def document(folder: Path) -> dict[str, Any]:
    """Return a run's document."""
    read_: dict[str, Any] = orjson.loads((folder / "run.json").read_bytes())
    return read_


def test_every_kind_of_user_gets_whole_answers(steady: Path) -> None:
    """Chat, Responses and calls with their results; nothing fails; later turns are longer than first ones."""
    found = read(steady)
    assert {one.kind for one in found} == {"chat", "responses", "tools"}
    assert {one.outcome for one in found} <= {"ok", "unfinished"}
    assert len(found) > 20
    assert all(one.output_tokens > one.reasoning_tokens > 0 for one in found if one.good)
    calls = [one for one in found if one.kind == "tools" and one.good]
    assert calls
    assert {one.turn for one in found} >= {1, 2}


def test_first_tokens_and_gaps_agree_with_the_engine_s_own_clock(steady: Path, live: System) -> None:
    """Within 5 %, request by request: the gateway and two sockets lie between the two clocks."""
    engine = live.engine()
    ttft, gap = [], []
    for one in read(steady):
        if one.kind == "tools" or not one.good:
            continue
        events = engine[one.request_id]
        assert one.ttft_s is not None
        ttft.append(one.ttft_s / events[0][1])
        theirs = [*_gaps(events, "reasoning"), *_gaps(events, "answer")]
        gap.append(one.gap_sum_s / sum(one.gaps.values()) / mean(theirs))
    assert len(ttft) > 10
    assert median(ttft) == pytest.approx(1, abs=0.05)
    assert median(gap) == pytest.approx(1, abs=0.05)


def _gaps(events: list[tuple[str, float]], kind: str) -> list[float]:
    times = [at_s for told, at_s in events if told == kind]
    return [after - before for before, after in pairwise(times)]


def test_the_engine_s_clock_is_what_it_was_set_to(live: System, steady: Path) -> None:
    """So that the agreement is with a known time: 400 ms, and three tokens before the first word."""
    engine, chats = live.engine(), [one for one in read(steady) if one.kind == "chat" and one.good]
    firsts = [engine[one.request_id][0][1] for one in chats]
    assert 0.52 <= median(firsts) < 0.6


def test_a_run_tells_what_was_measured(steady: Path) -> None:
    """Versions, hashes, machine, the engine, and what the generator itself used."""
    told = document(steady)
    assert set(told["about"]) >= {"at", "machine", "python", "versions", "plan_sha256", "target"}
    assert "locust 2." in told["about"]["versions"]
    assert len(told["fingerprints"]) == 1
    assert 0 < told["generator"]["cpu_us_per_chunk"] < 2000
    assert 0 < told["generator"]["cpu_max"] < 1
    assert told["held"] is True
    assert told["rates"]["tokens_per_s"] > 0


def test_a_run_s_folder_has_report_picture_and_metrics(steady: Path) -> None:
    """All of them have content; Prometheus's text has every request."""
    assert (steady / "report.png").read_bytes().startswith(b"\x89PNG")
    assert "data:image/png;base64," in (steady / "report.html").read_text()
    lines = (steady / "metrics.prom").read_text().splitlines()
    counted = [float(line.split()[-1]) for line in lines if line.startswith("loadtest_requests_total{")]
    assert sum(counted) == len(read(steady))
    gaps = [
        float(line.split()[-1]) for line in lines if line.startswith("loadtest_inter_token_seconds_count{")
    ]
    assert sum(gaps) == sum(sum(one.gaps.values()) for one in read(steady))


def test_no_key_and_no_prompt_is_in_the_results(steady: Path, live: System) -> None:
    """Results may be mailed."""
    text = b"".join(path.read_bytes() for path in steady.iterdir())
    assert live.key.encode() not in text
    assert b"Look up order" not in text


def test_a_broken_objective_is_exit_status_one(steady: Path, live: System, tmp_path: Path) -> None:
    """The report judges again by other objectives, and says which broke."""
    slo = write(tmp_path, {"ttft_s": {"p50": 0.2}})
    done = ended(live, command("report", str(steady), "--slo", slo, "--json"))
    assert done.returncode == 1, done.stderr
    (verdict,) = json.loads(done.stdout)["verdicts"]
    assert verdict["bar"] == "low: time to first token p50 at most 200 ms"
    assert verdict["held"] is False


def test_a_run_compared_with_itself_is_no_worse(steady: Path, live: System) -> None:
    """Nothing has changed, and the last line says so."""
    done = ended(live, command("compare", str(steady), str(steady)))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("0 of ")


def asked(live: System) -> float:
    """Return the completions that the gateway has counted; a list of models has no effort."""
    efforts = ("low", "medium", "high")
    return sum(live.metric("gptoss_requests_total{", f'effort="{effort}"') for effort in efforts)


def output(live: System) -> float:
    """Return the output tokens that the gateway has counted."""
    return sum(live.metric("gptoss_tokens_total{", f'kind="{kind}"') for kind in ("reasoning", "answer"))


def test_tokens_are_those_that_the_gateway_counted(live: System, tmp_path: Path) -> None:
    """Workers tell everything: two processes, and the sum over both is the gateway's own."""
    before = [asked(live), output(live)]
    done = run(live, "--processes", "2", "--watch", f"{live.admin}/metrics", "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stdout + done.stderr
    found = read(tmp_path / "run")
    assert document(tmp_path / "run")["generator"]["processes"] == 2
    assert {one.outcome for one in found} == {"ok"}
    assert asked(live) - before[0] == len(found)
    assert output(live) - before[1] == sum(one.output_tokens for one in found)
    sights = [json.loads(line) for line in (tmp_path / "run" / "target.jsonl").read_text().splitlines()]
    assert all(20 < one["rss_mib"] < 500 and one["open_files"] > 5 for one in sights)
    assert max(one["in_flight"] for one in sights) > 0


def test_the_knee_is_found(tmp_path: Path) -> None:
    """Tokens take 20 ms, and 4 more for each further stream; 60 are allowed: eleven users without pause."""
    engine = {"ttft_ms": 100, "inter_token_ms": 20, "inter_token_per_request_ms": 4, "slots": 64}
    lengths = {"reasoning_tokens": {"low": 10, "medium": 10, "high": 10}, "answer_tokens": 15}
    slo = write(tmp_path, {"inter_token_s": {"mean": 0.06}, "error_share": 0})
    changes = (
        "shape.kind=knee", "shape.first=4", "shape.settle_s=2", "shape.seconds=3", "shape.least=5",
        "shape.within=0.3", "shape.most=40", "pace.mean_s=0.01", "efforts={low: 1}",
        "users={chat: 1, responses: 0, tools: 0}", "conversation.max_turns=1",
    )  # fmt: skip
    with system(tmp_path, engine={**engine, **lengths}) as crowded:
        done = run(crowded, "--slo", slo, "--out", str(tmp_path / "run"), changes=changes)
    assert done.returncode == 0, done.stdout + done.stderr
    told = document(tmp_path / "run")
    assert 4 <= told["knee_users"] <= 12
    (broken, *_) = [level for level in told["levels"] if not level["held"]]
    assert "inter-token time mean at most 60 ms" in broken["broken"][0]


def test_an_overload_is_refused_and_told_apart(tmp_path: Path) -> None:
    """An open loop goes on asking; refusals are errors of their own kind, and break the objective."""
    engine = {**ENGINE, "slots": 1, "max_waiting": 0}
    admission = {"max_waiting": 1}
    slo = write(tmp_path, {"error_share": 0.05})
    changes = (
        "shape.kind=step", "shape.users=2", "shape.times=10", "shape.before_s=2", "shape.overload_s=4",
        "shape.after_s=1", "pace.kind=open", "pace.mean_s=1", "drain_s=5",
    )  # fmt: skip
    with system(tmp_path, engine=engine, admission=admission) as crowded:
        done = run(crowded, "--slo", slo, "--out", str(tmp_path / "run"), changes=changes)
    assert done.returncode == 1, done.stdout + done.stderr
    found = read(tmp_path / "run")
    refused = [one for one in found if one.outcome == "refused"]
    assert len(refused) > 5
    assert {one.reason for one in refused} <= {"server_is_overloaded", "deadline_exceeded"}
    assert any(one.good for one in found)
    told = document(tmp_path / "run")
    assert [one["name"] for one in told["phases"]] == ["before", "overload", "after"]
    assert told["phases"][1]["refusals"]["server_is_overloaded"]["p50"] < 2
    assert told["phases"][1]["rates"]["requests_per_s"] > 0


def test_the_web_ui_runs_a_test_and_shows_its_report(live: System, tmp_path: Path) -> None:
    """Start, statistics of Locust's own, metrics and report: all over HTTP."""
    web = f"127.0.0.1:{free_port()}"
    options = ("run", "--web", web, "--out", str(tmp_path / "run"))
    changes = ("shape.users=5", "shape.seconds=4", *SHORT)
    log = (tmp_path / "log").open("wb")
    with subprocess.Popen(
        command(*options, changes=changes), cwd=ROOT, env=live.environment(), stdout=log, stderr=log
    ) as process:
        try:
            _until(lambda: _get(web, "/stats/requests"))
            _post(web, "/swarm", user_count="1", spawn_rate="1", host=live.base_url)
            _until(lambda: "loadtest_requests_total{" in _get(web, "/metrics"))
            stats = json.loads(_get(web, "/stats/requests"))
            names = {one["method"] for one in stats["stats"]}
            assert names >= {"POST", "TTFT ms", "inter-token ms, mean", "inter-token ms, p99", "tokens/s"}
            _until(lambda: "Load test: steady: users 5" in _get(web, "/report"))
        finally:
            process.terminate()
            process.wait(timeout=30)
            log.close()
    assert document(tmp_path / "run")["figures"]
    with pytest.raises(OSError, match="refused"):  # what was started has ended with what started it
        _get(web, "/metrics")


def _get(web: str, path: str) -> str:
    with urllib.request.urlopen(f"http://{web}{path}", timeout=5) as response:
        return str(response.read().decode())


def _post(web: str, path: str, **form: str) -> None:
    with urllib.request.urlopen(f"http://{web}{path}", urllib.parse.urlencode(form).encode(), timeout=5):
        return


def _until(check: Any) -> None:
    """Return once ``check`` is true; a server that is not there yet is asked again."""
    deadline_s = time.monotonic() + 40
    while True:
        try:
            if check():
                return
        except OSError:
            if time.monotonic() > deadline_s:
                raise
        assert time.monotonic() < deadline_s
        time.sleep(0.2)


class Case(NamedTuple):
    """A wrong start."""

    options: tuple[str, ...]
    environment: dict[str, str]
    status: int
    told: str


@pytest.mark.parametrize(
    "case",
    [
        Case(("--set", "shape.users=none"), {}, 2, "shape.steady.users"),
        Case(("--plan", "no-such-file"), {}, 2, "no-such-file"),
        Case(("--set", "shape.kind=knee"), {}, 2, "--slo"),
        Case((), {"OPENAI_BASE_URL": ""}, 2, "OPENAI_BASE_URL"),
        Case((), {"OPENAI_API_KEY": ""}, 2, "OPENAI_API_KEY"),
        Case((), {"OPENAI_API_KEY": "gos_live_wrong"}, 3, "key is not valid"),
    ],
    ids=["value", "plan", "knee without objectives", "no address", "no key", "wrong key"],
)
def test_a_mistake_is_told_before_anything_starts(live: System, tmp_path: Path, case: Case) -> None:
    """With its exit status, its place, and nothing written."""
    done = run(live, *case.options, "--out", str(tmp_path / "run"), changes=(), **case.environment)
    assert done.returncode == case.status, done.stdout + done.stderr
    assert case.told in " ".join(done.stderr.split())
    assert not (tmp_path / "run").exists()


def test_nobody_there_is_exit_status_three(live: System, tmp_path: Path) -> None:
    """The address is named."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1"
    done = run(live, "--out", str(tmp_path / "run"), OPENAI_BASE_URL=url)
    assert done.returncode == 3
    assert url in done.stderr
