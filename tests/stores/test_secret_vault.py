"""Facts about administrative acts on a Kubernetes Secret; what every vault does is in `test_admin`."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cluster.settings import KeySecretSettings
from cluster.stores import admin, key_secret
from cluster.stores.key_secret import MAX_BYTES
from cluster.stores.records import KeyStoreError, KeyStoreUnreachableError
from cluster.stores.secret_vault import SecretVault
from tests.certificates import make
from tests.kube.access import ADMIN, Role
from tests.kube.api import KubernetesApi, in_thread

PEPPER = b"p" * 32
NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
GATEWAY = Role("gateway", frozenset({"get", "list", "watch"}), frozenset({"keys"}))


@pytest.fixture
def api() -> Iterator[KubernetesApi]:
    """Return an API that holds an empty Secret."""
    running = KubernetesApi(tokens={"admin-token": ADMIN, "gateway-token": GATEWAY})
    running.put("serving", "keys", {})
    with in_thread(running):
        yield running


@pytest.fixture
def vault(api: KubernetesApi, tmp_path: Path) -> SecretVault:
    """Return the vault on that Secret."""
    return SecretVault(place(api, tmp_path))


def place(api: KubernetesApi, folder: Path, token: str = "admin-token", **more: Any) -> KeySecretSettings:
    """Return where the Secret is, for the holder of a token."""
    kubeconfig = api.kubeconfig(folder / "kubeconfig", token)
    return KeySecretSettings(**{"secret": "keys", "kubeconfig": kubeconfig, **more})


def verbs(api: KubernetesApi) -> list[str]:
    """Return the verbs of the requests so far."""
    return [verb for verb, _, _ in api.requests]


def test_one_entry_per_record(api: KubernetesApi, vault: SecretVault) -> None:
    """Each tenant and key is an entry of its own, and entries of others stay as they are."""
    api.put("serving", "keys", {"README": b"do not touch"})
    admin.set_tenant(vault, "ads", now=NOW)
    made = admin.create_key(vault, "ads", pepper=PEPPER, now=NOW)
    data = api.data("serving", "keys")
    assert set(data) == {"README", "tenant.ads.json", f"key.{made.record.id}.json"}
    assert data["README"] == b"do not touch"
    admin.revoke_key(vault, made.record.id, now=NOW, forget=True)
    assert set(api.data("serving", "keys")) == {"README", "tenant.ads.json"}


def test_an_act_is_one_patch_of_what_it_changes(api: KubernetesApi, vault: SecretVault) -> None:
    """An act reads the Secret once and patches it once, under the version it was decided on."""
    admin.set_tenant(vault, "ads", now=NOW)
    assert verbs(api) == ["get", "patch"]


def test_a_conflict_is_decided_again(api: KubernetesApi, vault: SecretVault) -> None:
    """An act that another one overtakes is decided again on what that one left."""
    admin.set_tenant(vault, "ads", now=NOW)
    asked: list[set[str]] = []

    def act(entries: Any) -> admin.Change:
        asked.append(set(entries))
        if len(asked) == 1:
            api.put("serving", "keys", {**api.data("serving", "keys"), "tenant.new.json": b"{}"})
        audit = admin.AuditRecord(NOW, "test", "ads", None, {})
        return admin.Change({"tenant.mine.json": b"{}"}, audit)

    vault.change(act)
    assert asked == [{"tenant.ads.json"}, {"tenant.ads.json", "tenant.new.json"}]
    assert {"tenant.mine.json", "tenant.new.json"} <= set(api.data("serving", "keys"))


def test_acts_at_once_from_two_machines(api: KubernetesApi, tmp_path: Path) -> None:
    """Of many acts at the same moment none is lost, though each has only the version to go by."""
    vaults = [SecretVault(place(api, tmp_path)) for _ in range(4)]
    admin.set_tenant(vaults[0], "ads", now=NOW)
    made: list[str] = []

    def create(vault: SecretVault) -> None:
        for _ in range(5):
            made.append(admin.create_key(vault, "ads", pepper=PEPPER, now=NOW).record.id)

    threads = [threading.Thread(target=create, args=(vault,)) for vault in vaults]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 20
    assert {key.id for key in admin.list_keys(vaults[0])} == set(made)


def test_a_connection_that_breaks_after_the_write(api: KubernetesApi, vault: SecretVault) -> None:
    """A patch that was taken and not answered is noticed, so that a rotation happens once."""
    admin.set_tenant(vault, "ads", now=NOW)
    made = admin.create_key(vault, "ads", pepper=PEPPER, now=NOW)
    api.break_after_write()
    rotated = admin.rotate_key(vault, made.record.id, pepper=PEPPER, now=NOW, keep_old_s=60)
    (record,) = admin.list_keys(vault)
    assert record == rotated.record
    assert record.secrets[1].digest == made.record.secrets[0].digest


@pytest.mark.parametrize("refusals", [1, 1000], ids=["once", "for ever"])
def test_a_patch_that_was_not_taken_is_sent_again(
    api: KubernetesApi, vault: SecretVault, monkeypatch: pytest.MonkeyPatch, refusals: int
) -> None:
    """A server error in the way of the patch is tried again, for a bounded time."""
    monkeypatch.setattr("cluster.stores.secret_vault.CHANGE_S", 0.2)
    tries: list[int] = []

    def act(_entries: Any) -> admin.Change:
        tries.append(len(tries))
        if len(tries) <= refusals:
            api.fail(503, 1, "ServiceUnavailable")
        audit = admin.AuditRecord(NOW, "test", "ads", None, {})
        return admin.Change({"tenant.mine.json": b"{}"}, audit)

    if refusals == 1:
        vault.change(act)
        assert api.data("serving", "keys") == {"tenant.mine.json": b"{}"}
        return
    with pytest.raises(
        KeyStoreUnreachableError, match=r"not changed in 0\.2 s: Secret serving/keys: ordered"
    ):
        vault.change(act)
    assert len(tries) > 1


def test_a_full_secret_is_told_before_it_is_written(api: KubernetesApi, vault: SecretVault) -> None:
    """What would not fit is refused with its size, the bound and ways out; forgetting a key makes room."""
    admin.set_tenant(vault, "ads", now=NOW)
    made = admin.create_key(vault, "ads", pepper=PEPPER, now=NOW)
    data = api.data("serving", "keys")
    room = MAX_BYTES - sum(map(len, data.values()))
    api.put("serving", "keys", {**data, "padding": b"x" * room})
    with pytest.raises(KeyStoreError, match=r"would hold 10\d{5} bytes in 4 entries.*1048576.*--forget"):
        admin.create_key(vault, "ads", pepper=PEPPER, now=NOW)
    assert verbs(api)[-1] == "get"
    admin.revoke_key(vault, made.record.id, now=NOW, forget=True)
    admin.create_key(vault, "ads", pepper=PEPPER, now=NOW)


def test_a_secret_holds_thousands_of_keys(api: KubernetesApi, vault: SecretVault) -> None:
    """A whole Secret has room for three thousand keys with a label."""
    admin.set_tenant(vault, "ads", now=NOW)
    made = admin.create_key(vault, "ads", pepper=PEPPER, now=NOW, label="nightly batch of search")
    entry = api.data("serving", "keys")[f"key.{made.record.id}.json"]
    assert MAX_BYTES // len(entry) > 3000


@pytest.mark.parametrize(
    ("token", "name", "words"),
    [
        pytest.param(
            "gateway-token",
            "keys",
            r'Secret serving/keys: secrets "keys" is forbidden: User "gateway" cannot patch.*get and patch',
            id="a role that only reads",
        ),
        pytest.param("wrong", "keys", "Unauthorized; .*renew the kubeconfig", id="a bad token"),
        pytest.param(
            "admin-token",
            "none",
            "kubectl create secret generic none --namespace serving",
            id="no such Secret",
        ),
    ],
)
def test_a_refusal_is_told_with_its_mend(
    api: KubernetesApi, tmp_path: Path, token: str, name: str, words: str
) -> None:
    """The API's own words, the Secret, and what to do."""
    with pytest.raises(KeyStoreError, match=words) as caught:
        admin.set_tenant(SecretVault(place(api, tmp_path, token, secret=name)), "ads", now=NOW)
    assert not isinstance(caught.value, KeyStoreUnreachableError)


def test_an_api_that_is_away(tmp_path: Path) -> None:
    """An API that does not answer is told with its address, as a place that cannot be reached."""
    api = KubernetesApi()
    with in_thread(api):
        where = place(api, tmp_path)
    with pytest.raises(KeyStoreUnreachableError, match=f"the Kubernetes API at {api.url} cannot be reached"):
        SecretVault(where).read()


def test_an_api_that_hangs(api: KubernetesApi, vault: SecretVault, monkeypatch: pytest.MonkeyPatch) -> None:
    """An API that takes a request and says nothing is given up."""
    monkeypatch.setattr("cluster.stores.secret_vault.REQUEST_S", 0.1)
    api.hang(True)
    with pytest.raises(KeyStoreUnreachableError, match="cannot be reached"):
        vault.read()
    api.hang(False)


def test_a_kubeconfig_that_is_not_there(tmp_path: Path) -> None:
    """Credentials that cannot be loaded are told, with the option that names others."""
    with pytest.raises(KeyStoreError, match=r"no way to the Kubernetes API by .*none: .*--kubeconfig"):
        SecretVault(KeySecretSettings(secret="keys", kubeconfig=tmp_path / "none"))


def test_namespaces(api: KubernetesApi, tmp_path: Path) -> None:
    """The namespace is the one given, else the chosen context's, else the current context's."""
    for more, namespace in (
        ({}, "serving"),
        ({"context": "other"}, "elsewhere"),
        ({"context": "other", "namespace": "here"}, "here"),
    ):
        with pytest.raises(KeyStoreError, match=f"Secret {namespace}/none: "):
            SecretVault(place(api, tmp_path, secret="none", **more)).read()


def test_a_pods_own_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pod the service account's token, authority and namespace are the way to the API, over TLS."""
    certificates = make(tmp_path)
    api = KubernetesApi(tokens={"pod-token": ADMIN}, certificates=certificates)
    api.put("serving", "keys", {})
    (tmp_path / "token").write_text("pod-token")
    (tmp_path / "ca.crt").write_bytes(certificates.ca.read_bytes())
    (tmp_path / "namespace").write_text("serving\n")
    monkeypatch.setattr(key_secret, "SERVICE_ACCOUNT", tmp_path)
    with in_thread(api):
        host, _, port = api.url.removeprefix("https://").partition(":")
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
        admin.set_tenant(SecretVault(KeySecretSettings(secret="keys")), "ads", now=NOW)
        assert set(api.data("serving", "keys")) == {"tenant.ads.json"}
        (tmp_path / "other").mkdir()
        (tmp_path / "ca.crt").write_bytes(make(tmp_path / "other").ca.read_bytes())
        with pytest.raises(KeyStoreUnreachableError, match=r"cannot be reached.*CERTIFICATE_VERIFY_FAILED"):
            SecretVault(KeySecretSettings(secret="keys")).read()
