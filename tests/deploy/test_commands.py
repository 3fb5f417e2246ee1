"""The commands on Kubernetes, as a person or a pipeline runs them, against a real API."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from cluster.cli import app
from cluster.cli import drain as drain_command
from cluster.cli import status as status_command
from cluster.settings import RateLimits
from cluster.stores.key_index import KeyIndex
from deploy import api as client
from deploy import names as deploy_names
from tests.conftest import fetched
from tests.deploy import samples
from tests.deploy.conftest import NAMESPACE
from tests.deploy.recorded import load, names, now, put
from tests.deploy.test_preflight import H100, node, operator
from tests.helm.chart_docs import CHART
from tests.kube.api import KubernetesApi

SITE = CHART / "examples" / "h100-site.yaml"
ROOT = Path(__file__).resolve().parent.parent.parent
Run = Callable[..., Any]


@pytest.fixture
def run(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return what runs a command at the moment of the records, and checks its exit status."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(client, "PATIENCE_S", 1.0)
    monkeypatch.setattr(status_command, "_now", lambda: now(load("releases/ready")))
    monkeypatch.setattr(drain_command, "_now", lambda: now(load("releases/ready")))

    def run(*arguments: str, status: int = 0, text: str | None = None) -> Any:
        result = CliRunner().invoke(app, [*arguments, "--kubeconfig", str(kubeconfig)], input=text)
        assert result.exit_code == status, result.output
        return result

    return run


def flat(text: str) -> str:
    """Return text without the line breaks of a screen."""
    return " ".join(text.split())


@pytest.mark.parametrize("name", [each for each in names("stalls") if each != "crd-missing"])
def test_status_tells_the_stall(name: str, run: Run, kube: KubernetesApi) -> None:
    """Each recorded stall is the first one on the screen, in its one line, and the exit status is 1."""
    record = load(f"stalls/{name}")
    put(kube, record)
    told = flat(run("status", "--release", "gpt", status=1).stdout)
    assert told.index(f"stall: {record['line']}") == told.index("stall: ")


def test_status_of_a_ready_release(run: Run, kube: KubernetesApi) -> None:
    """Everything that is up is on the screen, and in the JSON; the exit status is 0."""
    put(kube, load("releases/ready"))
    told = run("status", "--release", "gpt").stdout
    assert "Release gpt in namespace ai: ready." in told
    for words in (
        "NonZeroServeEndpoints",
        "RUNNING",
        "NVIDIA-H100-80GB-HBM3",
        "2 of 2 ready",
        "copied and checked",
    ):
        assert words in told, words
    found = json.loads(run("status", "--release", "gpt", "--json").stdout)
    assert (found["ready"], found["progress"], found["stalls"]) == (True, 1.0, [])


def test_status_of_nothing(run: Run) -> None:
    """A release that is not there is a finding, and nothing to wait for."""
    told = run("status", "-r", "x", "--wait", status=1).stdout
    assert "Release x in namespace ai: not installed." in told


def test_status_names_another_namespace(run: Run, kube: KubernetesApi) -> None:
    """``--namespace`` goes before the kubeconfig's own."""
    put(kube, load("releases/ready"))
    assert "in namespace other: not installed" in run("status", "-r", "gpt", "-n", "other", status=1).stdout


class Clock:
    """Time that passes only while a command sleeps; what happens meanwhile is what a test says."""

    def __init__(self, *acts: Callable[[], None]) -> None:
        self.now_s, self._acts = 0.0, list(acts)

    def monotonic(self) -> float:
        """Return the seconds so far."""
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """Let time pass, and the next thing happen."""
        self.now_s += seconds
        if self._acts:
            self._acts.pop(0)()


def test_wait_ends_when_it_is_ready(run: Run, kube: KubernetesApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--wait`` sits out what loads, with troubles of the API, and ends with 0 once all is up."""
    clock = Clock(
        lambda: kube.fail(500, 2),
        lambda: kube.drop_connections(2),
        lambda: kube.fail(410, 1, "Expired", verb="list"),
        lambda: put(kube, load("releases/ready")),
    )
    monkeypatch.setattr(status_command, "time", clock)
    put(kube, load("releases/loading"))
    result = run("status", "-r", "gpt", "--wait")
    assert "ready." in result.stdout
    assert "waiting:" in result.stderr
    assert clock.now_s == 20


def test_wait_ends_at_a_stall(run: Run, kube: KubernetesApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--wait`` ends with 1 at once where waiting is in vain."""
    clock = Clock()
    monkeypatch.setattr(status_command, "time", clock)
    put(kube, load("stalls/hash-mismatch"))
    told = run("status", "-r", "gpt", "--wait", status=1).stdout
    assert "stall: the weights are not what their manifest says" in told
    assert clock.now_s == 0


def test_wait_ends_at_its_time_limit(run: Run, kube: KubernetesApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--timeout`` bounds it, and what was seen last is shown."""
    clock = Clock()
    monkeypatch.setattr(status_command, "time", clock)
    put(kube, load("releases/loading"))
    assert "(41%)" in run("status", "-r", "gpt", "--wait", "--timeout", "12", status=1).stdout
    assert clock.now_s == 12


COMMANDS = [["status"], ["preflight"], ["drain", "h100", "--dry-run"]]


@pytest.mark.parametrize("command", COMMANDS, ids=[each[0] for each in COMMANDS])
def test_an_api_that_answers_nothing_of_use(command: list[str], run: Run, kube: KubernetesApi) -> None:
    """Every command ends with 3 and says what the API said last."""
    kube.fail(500, 999)
    told = run(*command, status=3).stderr
    assert "no answer of use from http://127.0.0.1" in told
    assert "500 ordered by the test" in told


@pytest.mark.parametrize("command", COMMANDS, ids=[each[0] for each in COMMANDS])
def test_no_kubeconfig(command: list[str], tmp_path: Path) -> None:
    """Without a way to an API every command ends with 3 and says how to name one."""
    result = CliRunner().invoke(app, [*command, "--kubeconfig", str(tmp_path / "none")])
    assert result.exit_code == 3
    assert "--kubeconfig" in result.stderr


# --- preflight on the real chart


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    """Return what real helm makes of the chart for the example site."""
    options = ["--namespace", NAMESPACE, "--values", str(SITE)]
    done = fetched("helm-4", tmp_path)("template", "gpt", str(CHART), *options)
    path = tmp_path / "manifests.yaml"
    path.write_text(done.stdout)
    return path


def prepare(kube: KubernetesApi) -> None:
    """Make the cluster what the example site says of it."""
    kube.add_namespace("kuberay")
    add(kube, "Deployment", operator())
    for name in ("gpu-1", "gpu-2"):
        add(kube, "Node", node(name, 8))
    add(kube, "StorageClass", {"metadata": {"name": "nfs-fast"}, "provisioner": "nfs.csi.example.com"})
    default = {"name": "ssd", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    add(kube, "StorageClass", {"metadata": default, "provisioner": "ssd.csi.example.com"})
    add(kube, "IngressClass", {"metadata": {"name": "nginx"}, "spec": {"controller": "k8s.io/nginx"}})
    kube.put(NAMESPACE, "ai-example-com", {"tls.crt": b"x", "tls.key": b"x"})
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    add(kube, "Namespace", {"metadata": {"name": NAMESPACE, "labels": label}})


def add(kube: KubernetesApi, kind: str, body: dict[str, Any]) -> None:
    """Store an object as it is."""
    version = {"Deployment": "apps/v1", "Node": "v1", "Namespace": "v1"}.get(kind, "x/v1")
    kube.objects.store.put(kube.kind(kind), {"apiVersion": version, "kind": kind, **body})


def test_preflight_of_an_empty_cluster(run: Run, kube: KubernetesApi, manifests: Path) -> None:
    """An unprepared cluster lacks what the example site says of itself; nothing is written."""
    version = kube.version
    found = json.loads(run("preflight", "--manifests", str(manifests), "--json", status=1).stdout)
    assert {each["code"] for each in found["findings"]} == {
        "operator-missing",
        "gpu-missing",
        "storage-class-missing",
        "storage-class-default",
        "class-missing",
        "secret-missing",
        "pod-security-unset",
    }
    assert found["objects"] > 15
    assert kube.version == version


def test_preflight_of_a_prepared_cluster(run: Run, kube: KubernetesApi, manifests: Path) -> None:
    """Prepared, the same cluster is ready, and the API takes every object and every pod of the chart."""
    prepare(kube)
    version = kube.version
    told = run("preflight", "--manifests", "-", text=manifests.read_text()).stdout
    assert "Ready for an install." in told
    assert f"Kubernetes v1.37.0, KubeRay v1.7.1. GPUs: 16 x {H100} (16 free)." in told
    assert kube.version == version
    tried = [verb for verb, _, query in kube.requests if query.get("dryRun") == "All"]
    assert {"patch", "create"} <= set(tried)


def test_preflight_sits_out_trouble(run: Run, kube: KubernetesApi, manifests: Path) -> None:
    """Refusals that pass and broken connections in the midst of it change nothing."""
    prepare(kube)
    kube.fail(429, 2, "TooManyRequests", verb="patch")
    kube.fail(500, 2, verb="list", resource="nodes")
    kube.drop_connections(2, verb="create", resource="pods")
    result = run("preflight", "--manifests", str(manifests))
    assert "429" in result.stderr


def test_what_the_api_refuses_is_found(run: Run, kube: KubernetesApi, manifests: Path) -> None:
    """What only the server knows to be wrong is found by trying."""
    prepare(kube)
    manifests.write_text(
        manifests.read_text().replace("maxUnavailable: 1", "maxUnavailable: 1\n  minimum: 1")
    )
    told = run("preflight", "--manifests", str(manifests), status=1).stdout
    assert 'unknown field "spec.minimum"' in flat(told)


def test_preflight_takes_manifests_only(run: Run, tmp_path: Path) -> None:
    """A file that is not there, or is something else, is a mistake of usage."""
    run("preflight", "--manifests", str(tmp_path / "none"), status=2)
    (tmp_path / "values.yaml").write_text("image: x")
    told = run("preflight", "--manifests", str(tmp_path / "values.yaml"), status=2).stderr
    assert "helm template" in flat(told)


# --- drain


def test_drain_says_first_what_is_lost(run: Run, kube: KubernetesApi) -> None:
    """The loss is shown, then asked for; a no touches nothing."""
    put(kube, load("releases/ready"))
    told = run("drain", "h100", "-r", "gpt", text="n\n", status=1)
    assert "50 %" in told.stdout
    assert "30 min to end its streams" in told.stdout
    assert "nothing was done" in told.stderr
    assert not [verb for verb, _, _ in kube.requests if verb not in {"get", "list"}]


def test_drain_tells_an_outage(run: Run, kube: KubernetesApi) -> None:
    """What is out altogether has a line of its own, and a dry run stops there."""
    put(kube, load("releases/ready"))
    told = run("drain", "--all", "-r", "gpt", "--dry-run").stdout
    assert "Out meanwhile: gpt-oss-120b." in told
    found = json.loads(run("drain", "--all", "-r", "gpt", "--dry-run", "--json").stdout)
    assert (found["kind"], found["outage"]) == ("rebuild", ["gpt-oss-120b"])


def test_drain_does_what_it_said(run: Run, kube: KubernetesApi) -> None:
    """With ``--yes`` the workers of a cordoned node go, one by one, and each step is told."""
    record = load("releases/ready")
    for each in record["objects"]:
        if each["metadata"]["name"] == "gpu-1":
            each["spec"] = {"unschedulable": True}
    put(kube, record)
    result = run("drain", "--node", "gpu-1", "-r", "gpt", "--yes")
    assert "The node is cordoned" in result.stdout
    assert not [name for name in kube.names("Pod", NAMESPACE) if "-worker-" in name]
    told = [line.split(" ", 1)[1] for line in result.stderr.splitlines()]
    assert [line.split("worker-")[-1] for line in told] == [
        "7hd2k ends its streams",
        "7hd2k is done",
        "q9x5m ends its streams",
        "q9x5m is done",
        "done",
    ]


USAGE = [
    [],
    ["h100", "--all"],
    ["--keep", "1"],
    ["h100", "--keep", "1", "--node", "x"],
]


@pytest.mark.parametrize("arguments", USAGE, ids=[" ".join(each) or "nothing" for each in USAGE])
def test_drain_refuses_contradictions(arguments: list[str], run: Run) -> None:
    """Options that say nothing, or two things, are a mistake of usage."""
    run("drain", *arguments, status=2)


def test_drain_refuses_what_cannot_be(run: Run, kube: KubernetesApi) -> None:
    """What the state of the cluster forbids is a finding."""
    put(kube, load("releases/ready"))
    told = run("drain", "h100", "--keep", "1", "-r", "gpt", status=1).stderr
    assert "no upgrade waits for GPUs" in flat(told)


# --- keys of a release


class KubernetesEntries:
    """The records of a Secret, as a gateway reads them."""

    def __init__(self, entries: dict[str, bytes]) -> None:
        self._entries = entries

    def caller(self, key: str, pepper: bytes) -> str | None:
        """Return whose key it is under a pepper."""
        index = KeyIndex(pepper, defaults=RateLimits(), clock=lambda: 0.0, origin="test")
        index.update(self._entries)
        found = index.find(key)
        return found.tenant if found else None


def test_keys_of_a_release(run: Run, kube: KubernetesApi) -> None:
    """``--release`` finds the chart's Secrets: no name to remember, and no pepper to copy out."""
    kube.put(NAMESPACE, "gpt-gpt-oss-cluster-keys", {})
    kube.put(NAMESPACE, "gpt-gpt-oss-cluster-secrets", {"pepper": b"p" * 40, "engine-key": b"e"})
    page = samples.PAGE.read_text().split("## Tenants and keys")[1]
    tenant, key = re.findall(r"^gpt-oss-cluster (.*)$", page, re.MULTILINE)
    run(*tenant.split())
    made = json.loads(run(*key.split(), "--json").stdout)
    entries = KubernetesEntries(kube.data(NAMESPACE, "gpt-gpt-oss-cluster-keys"))
    assert entries.caller(made["key"], b"p" * 40) == "search"
    assert entries.caller(made["key"], b"q" * 40) is None


def test_the_notes_of_the_chart_work(run: Run, kube: KubernetesApi, tmp_path: Path, manifests: Path) -> None:
    """The commands that helm prints after an install create a tenant and a key in the Secrets it made."""
    helm = fetched("helm-4", tmp_path)
    options = ["--namespace", NAMESPACE, "--values", str(SITE), "--dry-run=client"]
    notes = helm("install", "gpt", str(CHART), *options).stdout.split("NOTES:")[1]
    for each in yaml.safe_load_all(manifests.read_text()):
        if each and each["kind"] == "Secret":
            kube.add(each)
    commands = re.findall(r"^ +gpt-oss-cluster ((?:tenants|keys) .*)$", notes, re.MULTILINE)
    assert len(commands) == 2
    printed = [run(*command.split()).stdout for command in commands]
    assert printed[-1].startswith("gos_live_")


def test_a_release_without_a_pepper(run: Run, kube: KubernetesApi) -> None:
    """A pepper that is not there or too short is told, with the Secret's name and another way."""
    kube.put(NAMESPACE, "gpt-gpt-oss-cluster-keys", {})
    kube.put(NAMESPACE, "gpt-gpt-oss-cluster-secrets", {"engine-key": b"e"})
    run("tenants", "set", "search", "-r", "gpt")
    told = run("keys", "create", "search", "-r", "gpt", status=1).stderr
    assert "Secret ai/gpt-gpt-oss-cluster-secrets: no entry pepper" in flat(told)
    kube.put(NAMESPACE, "gpt-gpt-oss-cluster-secrets", {"pepper": b"short"})
    told = run("keys", "create", "search", "-r", "gpt", status=1).stderr
    assert "5 bytes, but at least 32 are needed. Name a file with --pepper-file" in flat(told)


def test_a_release_is_one_place(run: Run) -> None:
    """A release and another place at once are a mistake of usage."""
    run("keys", "list", "-r", "gpt", "--kubernetes-secret", "x", status=2)


def test_the_chart_has_these_names(manifests: Path) -> None:
    """The names that commands go by are those that the chart renders."""
    made = [each for each in yaml.safe_load_all(manifests.read_text()) if each]
    found = {(each["kind"], each["metadata"]["name"]) for each in made}
    fullname = deploy_names.fullname("gpt")
    assert {
        ("RayService", fullname),
        ("Secret", f"{fullname}-keys"),
        ("Secret", f"{fullname}-secrets"),
        ("Deployment", f"{fullname}-gateway"),
    } <= found
    (service,) = [each for each in made if each["kind"] == "RayService"]
    labels = service["metadata"]["labels"]
    assert labels[deploy_names.RELEASE_LABEL] == "gpt"


def test_the_samples_of_the_page_are_what_is_printed() -> None:
    """``docs/operations.md`` shows what the commands print; ``python -m tests.deploy.samples`` writes it."""
    assert samples.page() == samples.PAGE.read_text()


def test_every_stall_is_on_the_page() -> None:
    """The page lists the code of each stall that the rules can tell."""
    source = "".join(path.read_text() for path in (ROOT / "deploy" / "stalls").glob("*.py"))
    codes = set(re.findall(r'Stall\(\s*"([a-z-]+)"', source))
    assert len(codes) > 15
    table = samples.PAGE.read_text().split("| stall |")[1].split("## ")[0]
    rows = "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    assert codes == set(re.findall(r"`([a-z-]+)`", rows))
