"""The command line: what it prints, and the exit status that scripts rely on."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from cluster import settings
from cluster.cli import app
from cluster.stores.key_files import KeyDirectory
from cluster.stores.key_index import KeyIndex, load_pepper
from tests.kube.api import KubernetesApi, in_thread
from tests.test_settings import RIGHT

runner = CliRunner()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a right settings document, with its pepper and its key directory."""
    (tmp_path / "pepper").write_text("p" * 40)
    auth = {"keys": {"path": str(tmp_path / "keys")}, "pepper_file": str(tmp_path / "pepper")}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**RIGHT, "auth": auth}))
    return path


def run(*arguments: str, status: int = 0) -> Any:
    """Run a command, check its exit status and return the result."""
    result = runner.invoke(app, list(arguments))
    assert result.exit_code == status, result.output
    return result


def test_a_right_document_passes(config: Path) -> None:
    """``check-config`` says that a right document is right, and names its pools."""
    assert "gpt-oss-20b" in run("check-config", str(config)).stdout


def test_a_wrong_document_is_a_finding(tmp_path: Path) -> None:
    """``check-config`` leaves with 1 and names each mistake by its path in the file."""
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump({**RIGHT, "gatewya": {}}))
    assert "gatewya: unknown key" in run("check-config", str(path), status=1).stderr
    told = json.loads(run("check-config", str(path), "--json", status=1).stdout)
    assert told["ok"] is False


PLANS = [
    pytest.param("gpt-oss-120b", {"profile": "gpu-24gb"}, "of weights do not fit", id="120b on 24 GB"),
    pytest.param("gpt-oss-20b", {"profile": "tpu"}, "It has: gpu-16gb", id="no such profile"),
    pytest.param(
        "gpt-oss-20b",
        {"profile": "gpu-16gb", "max_model_len": 131072},
        "Set max_model_len to at most",
        id="a context that does not fit",
    ),
]


@pytest.mark.parametrize(("model", "pool", "message"), PLANS)
def test_a_pool_that_cannot_fit_is_a_finding(
    tmp_path: Path, model: str, pool: dict[str, Any], message: str
) -> None:
    """``check-config`` plans each pool's memory and says what would fit."""
    serving = {"engine_key_file": "key", "pools": {model: {"model": model, **pool}}}
    models = {model: {"pools": [model], "source": "/models"}}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**RIGHT, "serving": serving, "models": models}))
    told = run("check-config", str(path), status=1).stderr
    assert f"serving.pools.{model}" in told
    assert message in " ".join(told.split())


def test_the_schema_is_the_settings_model(config: Path) -> None:
    """``schema`` prints the JSON Schema of the settings document."""
    told = json.loads(run("schema").stdout)
    assert told["properties"].keys() == settings.load(config).model_dump().keys()


def test_profiles_tell_a_reason_for_every_flag() -> None:
    """``profiles`` lists models, profiles and flags, each with its reason."""
    rows = json.loads(run("profiles", "--json").stdout)
    assert {"gpt-oss-120b", "gpt-oss-20b"} <= {row["model"] for row in rows}
    assert all(row["reason"] for row in rows)


def test_a_tenant_gets_a_key_that_works(config: Path) -> None:
    """Onboarding is two commands; the key that the second one prints is good at once."""
    run(
        "tenants",
        "set",
        "search",
        "--max-effort",
        "medium",
        "--tokens-per-min",
        "5000",
        "--config",
        str(config),
    )
    key = run("keys", "create", "search", "--label", "ci", "--config", str(config)).stdout.strip()
    document = settings.load(config)
    keys = KeyIndex(
        load_pepper(document.auth.pepper_file),
        defaults=document.limits.defaults,
        clock=lambda: 0.0,
        origin="test",
    )
    keys.update(KeyDirectory(config.parent / "keys").read())
    caller = keys.find(key)
    assert caller is not None
    assert (caller.tenant, caller.max_effort, caller.limits[0].tokens_per_min) == ("search", "medium", 5000)


def test_a_key_may_have_limits_of_its_own(config: Path) -> None:
    """Limits given with a key are kept with it, beside its tenant's; without any it has none."""
    run("tenants", "set", "search", "--requests-per-min", "9", "--config", str(config))
    run("keys", "create", "search", "--label", "plain", "--config", str(config))
    options = ["--requests-per-min", "3", "--tokens-per-day-high", "70"]
    run("keys", "create", "search", "--label", "own", *options, "--config", str(config))
    keys = json.loads(run("keys", "list", "--json", "--config", str(config)).stdout)
    limits = {key["label"]: key["limits"] for key in keys}
    assert limits["plain"] is None
    assert limits["own"]["requests_per_min"] == 3
    assert limits["own"]["tokens_per_day"]["high"] == 70


def test_a_key_is_narrowed_within_its_tenant(config: Path) -> None:
    """What is not given is the tenant's; what would go beyond it is refused."""
    run("tenants", "set", "search", "--max-effort", "medium", "--config", str(config))
    run("keys", "create", "search", "--model", "gpt-oss-20b", "--config", str(config))
    [key] = json.loads(run("keys", "list", "--json", "--config", str(config)).stdout)
    assert key["scopes"]["max_effort"] == "medium"
    assert key["scopes"]["models"] == ["gpt-oss-20b"]
    refused = run("keys", "create", "search", "--max-effort", "high", "--config", str(config), status=1)
    assert "max_effort (high; the tenant's: medium)" in refused.stderr
    assert "tenants set" in refused.stderr


def test_reasoning_is_capped_by_tenant_and_key(config: Path) -> None:
    """A key may be tighter than its tenant, not wider; 0 lifts the cap, and 1 to 15 are refused."""
    option = "--max-reasoning-tokens"
    run("tenants", "set", "search", option, "64", "--config", str(config))
    run("keys", "create", "search", option, "16", "--config", str(config))
    [key] = json.loads(run("keys", "list", "--json", "--config", str(config)).stdout)
    assert key["scopes"]["max_reasoning_tokens"] == 16
    refused = run("keys", "create", "search", option, "65", "--config", str(config), status=1)
    assert "max_reasoning_tokens (65; the tenant's: 64)" in refused.stderr
    small = run("tenants", "set", "search", option, "15", "--config", str(config), status=2)
    assert "use 16 or more, or 0 for no such cap" in " ".join(small.stderr.replace("│", " ").split())
    assert "64 reasoning tokens" in run("tenants", "list", "--config", str(config)).stdout
    run("tenants", "set", "search", option, "0", "--config", str(config))
    [tenant] = json.loads(run("tenants", "list", "--json", "--config", str(config)).stdout)
    assert tenant["scopes"]["max_reasoning_tokens"] is None


def test_a_tenant_is_changed_in_what_is_given(config: Path) -> None:
    """``tenants set`` keeps what it is not told; 0 lifts one limit, and all of them can be dropped."""

    def set_to(*options: str) -> dict[str, Any]:
        run("tenants", "set", "search", *options, "--config", str(config))
        [tenant] = json.loads(run("tenants", "list", "--json", "--config", str(config)).stdout)
        return {**tenant["scopes"], "limits": tenant["limits"], "default": tenant["default_effort"]}

    set_to("--model", "gpt-oss-20b", "--endpoint", "chat", "--max-effort", "low", "--tokens-per-min", "5")
    told = set_to("--see-reasoning", "--requests-per-min", "7", "--tokens-per-day-high", "9")
    assert (told["models"], told["endpoints"], told["max_effort"]) == (["gpt-oss-20b"], ["chat"], "low")
    assert told["see_reasoning"] is True
    assert told["default"] is None
    assert set_to("--default-effort", "low")["default"] == set_to("--max-effort", "low")["default"] == "low"
    assert set_to("--default-effort", "model")["default"] is None
    assert (told["limits"]["tokens_per_min"], told["limits"]["requests_per_min"]) == (5, 7)
    told = set_to("--all-models", "--all-endpoints", "--tokens-per-min", "0", "--hide-reasoning")
    assert (told["models"], told["endpoints"], told["see_reasoning"]) == (None, None, False)
    assert (told["limits"]["tokens_per_min"], told["limits"]["tokens_per_day"]["high"]) == (None, 9)
    assert set_to("--default-limits")["limits"] is None


def test_every_scope_of_a_key_is_an_option(config: Path) -> None:
    """A key can be narrowed in models, endpoints, effort and what it sees, and the list tells it."""
    run("tenants", "set", "search", "--see-reasoning", "--config", str(config))
    scopes: tuple[str, ...] = ("--model", "gpt-oss", "--endpoint", "responses", "--max-effort", "low")
    scopes += ("--hide-reasoning", "--max-reasoning-tokens", "64", "--service-tier", "flex")
    run("keys", "create", "search", *scopes, "--config", str(config))
    [key] = json.loads(run("keys", "list", "--json", "--config", str(config)).stdout)
    assert key["scopes"] == {
        "models": ["gpt-oss"], "endpoints": ["responses"], "max_effort": "low", "see_reasoning": False,
        "max_reasoning_tokens": 64, "service_tier": "flex",
    }  # fmt: skip
    table = " ".join(run("keys", "list", "--config", str(config)).stdout.split())
    assert key["id"] in table
    run("keys", "create", "search", "--endpoint", "embeddings", "--config", str(config), status=2)


def test_no_settings_document_is_needed(tmp_path: Path) -> None:
    """With a key directory and a pepper file given, no document is read."""
    (tmp_path / "pepper").write_text("p" * 40)
    place = ("--keys-dir", str(tmp_path / "keys"))
    run("tenants", "set", "search", *place)
    made = run("keys", "create", "search", *place, "--pepper-file", str(tmp_path / "pepper")).stdout.strip()
    assert made.startswith("gos_live_")
    assert "pepper file" in run("keys", "create", "search", *place, "--pepper-file", "no", status=1).stderr


def test_a_revoked_key_is_listed_as_such(config: Path) -> None:
    """``keys revoke`` is for good; the list keeps the key, without any secret."""
    run("tenants", "set", "search", "--config", str(config))
    made = json.loads(run("keys", "create", "search", "--json", "--config", str(config)).stdout)
    run("keys", "revoke", made["key_id"], "--config", str(config))
    listed = run("keys", "list", "--json", "--config", str(config)).stdout
    assert json.loads(listed)[0]["state"] == "revoked"
    assert made["key"] not in listed
    assert "digest" not in listed


def test_a_rotated_key_has_two_live_secrets(config: Path) -> None:
    """``keys rotate`` prints another key under the same id; both are live for a while."""
    run("tenants", "set", "search", "--config", str(config))
    made = json.loads(run("keys", "create", "search", "--json", "--config", str(config)).stdout)
    again = run("keys", "rotate", made["key_id"], "--config", str(config)).stdout.strip()
    assert again != made["key"]
    assert json.loads(run("keys", "list", "--json", "--config", str(config)).stdout)[0]["secrets"] == 2


def audited(result: Any) -> dict[str, Any]:
    """Return the one audit line of a command."""
    (line,) = [text for text in result.stderr.splitlines() if text.startswith("{")]
    told: dict[str, Any] = json.loads(line)
    assert (told["log"], set(told)) == ("audit", AUDIT)
    return told


AUDIT = {"log", "ts", "act", "actor", "tenant", "key_id", "changes"}


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_every_act_leaves_an_audit_line(config: Path, form: tuple[str, ...]) -> None:
    """Who did what to whom and when, on standard error, and neither the key nor what is stored of it."""
    options = (*form, "--config", str(config))
    told = [audited(run("tenants", "set", "search", "--max-effort", "low", *options))]
    made = run("keys", "create", "search", "--label", "ci", *options)
    told.append(audited(made))
    identity = told[1]["key_id"]
    again = run("keys", "rotate", identity, *options)
    told.append(audited(again))
    stored = (config.parent / "keys" / f"key.{identity}.json").read_text()
    told.append(audited(run("keys", "revoke", identity, *options)))
    told.append(audited(run("tenants", "remove", "search", *options)))
    acts = ["tenant.set", "key.create", "key.rotate", "key.revoke", "tenant.remove"]
    assert [line["act"] for line in told] == acts
    assert {line["tenant"] for line in told} == {"search"}
    assert [line["key_id"] for line in told] == [None, identity, identity, identity, None]
    assert told[0]["changes"]["scopes"]["max_effort"] == "low"
    assert told[1]["changes"]["label"] == "ci"
    assert all(re.fullmatch(r"[^@]+@[^@]+", line["actor"]) for line in told)
    assert all(line["ts"].endswith("Z") for line in told)
    secrets = [key[17:49] for result in (made, again) for key in re.findall(r"gos_live_\w+", result.stdout)]
    digests = re.findall(r"[0-9a-f]{64}", stored)
    assert (len(secrets), len(digests)) == (2, 2)
    assert not any(word in json.dumps(told) for word in (*secrets, *digests))


def test_what_was_not_done_leaves_no_audit_line(config: Path) -> None:
    """An act that is refused changes nothing, and is an error and no audit line."""
    assert "{" not in run("keys", "create", "nobody", "--config", str(config), status=1).stderr
    assert "{" not in run("tenants", "list", "--config", str(config)).stderr


def test_a_secret_is_shown_once(config: Path) -> None:
    """Standard output of the command that makes it, and neither standard error nor any list."""
    run("tenants", "set", "search", "--config", str(config))
    made = run("keys", "create", "search", "--config", str(config))
    key = made.stdout.strip()
    assert re.fullmatch(r"gos_live_\w{46}", key)
    assert key[17:49] not in made.stderr
    for form in ((), ("--json",)):
        assert key[17:49] not in run("keys", "list", *form, "--config", str(config)).output
    assert key[17:49] not in (config.parent / "keys" / f"key.{key[9:17]}.json").read_text()


def test_a_user_without_a_name_is_a_number(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container nobody may have given the user a name."""

    def unnamed() -> str:
        raise KeyError

    monkeypatch.setattr("getpass.getuser", unnamed)
    told = audited(run("tenants", "set", "search", "--config", str(config)))
    assert told["actor"].startswith(f"{os.getuid()}@")


def test_a_tenant_with_live_keys_stays(config: Path) -> None:
    """``tenants remove`` is refused while a key lives, and says what to do first."""
    run("tenants", "set", "search", "--config", str(config))
    run("keys", "create", "search", "--config", str(config))
    assert "keys revoke" in run("tenants", "remove", "search", "--config", str(config), status=1).stderr


def test_an_unknown_tenant_is_a_finding(config: Path) -> None:
    """A key for a tenant that is not there is refused with the command that creates it."""
    refused = run("keys", "create", "nobody", "--config", str(config), status=1)
    assert "tenants set nobody" in refused.stderr


SECRET = ("--kubernetes-secret", "keys")


@pytest.fixture
def api() -> Iterator[KubernetesApi]:
    """Return a Kubernetes API with an empty Secret."""
    running = KubernetesApi()
    running.put("serving", "keys", {})
    with in_thread(running):
        yield running


def test_the_same_commands_on_a_secret(api: KubernetesApi, tmp_path: Path) -> None:
    """Named by options, a Secret is onboarded to and revoked in as a directory is, without any document."""
    (tmp_path / "pepper").write_text("p" * 40)
    pepper = ("--pepper-file", str(tmp_path / "pepper"))
    place = (*SECRET, "--kubeconfig", str(api.kubeconfig(tmp_path / "kubeconfig")))
    run("tenants", "set", "search", *place)
    made = json.loads(run("keys", "create", "search", "--json", *pepper, *place).stdout)
    assert set(api.data("serving", "keys")) == {"tenant.search.json", f"key.{made['key_id']}.json"}
    assert made["key"].encode() not in api.data("serving", "keys")[f"key.{made['key_id']}.json"]
    assert run("keys", "rotate", made["key_id"], *pepper, *place).stdout.startswith("gos_live_")
    run("keys", "revoke", made["key_id"], *place)
    [key] = json.loads(run("keys", "list", "--json", *place).stdout)
    assert key["state"] == "revoked"
    run("keys", "revoke", made["key_id"], "--forget", *place)
    run("tenants", "remove", "search", *place)
    assert json.loads(run("tenants", "list", "--json", *place).stdout) == []


def test_the_document_may_name_a_secret(api: KubernetesApi, tmp_path: Path) -> None:
    """Where the document keeps keys in a Secret the commands do too, and options say how to get there."""
    keys = {"source": "kubernetes", "secret": "keys", "namespace": "serving"}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**RIGHT, "auth": {"keys": keys, "pepper_file": "/p"}}))
    kubeconfig = str(api.kubeconfig(tmp_path / "kubeconfig", namespace=None))
    run("tenants", "set", "search", "--config", str(path), "--kubeconfig", kubeconfig)
    assert set(api.data("serving", "keys")) == {"tenant.search.json"}
    elsewhere = ("--config", str(path), "--kubeconfig", kubeconfig, "--namespace", "elsewhere")
    assert "Secret elsewhere/keys" in run("tenants", "list", *elsewhere, status=1).stderr


def test_an_api_that_is_away_is_not_reached(api: KubernetesApi, tmp_path: Path) -> None:
    """Exit status 3 and the address, for scripts that try again."""
    kubeconfig = api.kubeconfig(tmp_path / "kubeconfig").read_text().replace(api.url, "http://127.0.0.1:1")
    (tmp_path / "kubeconfig").write_text(kubeconfig)
    place = (*SECRET, "--kubeconfig", str(tmp_path / "kubeconfig"))
    assert "http://127.0.0.1:1 cannot be reached" in run("keys", "list", *place, status=3).stderr


def test_places_that_exclude_each_other(config: Path) -> None:
    """A directory and a Secret at once, a namespace of a directory, a name that is none: usage errors."""
    for options in (
        ("--keys-dir", "keys", *SECRET),
        ("--namespace", "serving", "--config", str(config)),
        ("--kubernetes-secret", "No Such Name"),
    ):
        run("keys", "list", *options, status=2)


@pytest.mark.parametrize("command", [("gateway",), ("keys", "list"), ("tenants", "list")])
def test_a_missing_document_is_told(command: tuple[str, ...], tmp_path: Path) -> None:
    """A command that needs the document says where it looked and how to name another."""
    result = run(*command, "--config", str(tmp_path / "nowhere.yaml"), status=1)
    assert "nowhere.yaml: no such file" in result.stderr


def test_a_misspelt_option_is_a_usage_error() -> None:
    """A wrong option leaves with 2."""
    run("schema", "--jsno", status=2)
