"""The settings document: what is right loads, what is wrong is named by its place."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import settings
from cluster.settings import Settings, SettingsError

RIGHT: dict[str, Any] = {
    "version": 1,
    "serving": {
        "engine_key_file": "/etc/secrets/engine-key",
        "pools": {"gpt-oss-20b": {"model": "gpt-oss-20b", "profile": "gpu-24gb"}},
    },
    "models": {"gpt-oss-20b": {"pools": ["gpt-oss-20b"], "source": "/models/gpt-oss-20b"}},
    "auth": {"keys": {"path": "/etc/keys"}, "pepper_file": "/etc/secrets/pepper"},
}


def change(document: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """Return a copy of ``document`` with the value at the dotted ``place`` replaced."""
    copy = deepcopy(document)
    *parents, last = place.split("/")
    target = copy
    for name in parents:
        target = target[name]
    target[last] = value
    return copy


def issuer(**changes: Any) -> dict[str, Any]:
    """Return an issuer of tokens."""
    right = {
        "name": "a",
        "issuer": "a",
        "audience": "x",
        "jwks": {"file": "/k"},
        "claims": {"tenant": "team"},
    }
    return {**right, **changes}


def test_a_small_document_is_enough() -> None:
    """Everything but pools, models and the places of secrets has a default."""
    loaded = settings.parse(RIGHT, origin="config.yaml")
    assert loaded.gateway.listen == "0.0.0.0:8080"
    assert loaded.models["gpt-oss-20b"].efforts["high"].max_output_tokens == 65536


WRONG: list[Any] = [
    pytest.param("version", 2, "version: Input should be 1", id="a version from the future"),
    pytest.param("gatewya", {}, "gatewya: unknown key", id="a misspelt section"),
    pytest.param(
        "serving/pools/gpt-oss-20b/replicas",
        {"min": 3, "max": 1},
        "serving.pools.gpt-oss-20b.replicas: max (1) is below min (3)",
        id="replicas upside down",
    ),
    pytest.param(
        "serving/pools/gpt-oss-20b/model",
        "gpt-4",
        "serving.pools.gpt-oss-20b.model: Input should be 'gpt-oss-120b' or 'gpt-oss-20b'",
        id="a model that is not gpt-oss",
    ),
    pytest.param(
        "models/gpt-oss-20b/pools",
        ["nowhere"],
        "models.gpt-oss-20b.pools names 'nowhere', which serving.pools lacks",
        id="a pool that is not there",
    ),
    pytest.param(
        "aliases",
        {"gpt-oss": {"low": "gpt-oss-20b", "medium": "gpt-oss-20b", "high": "gpt-oss-120b"}},
        "aliases.gpt-oss.high names 'gpt-oss-120b', which models lacks",
        id="an alias to a model that is not there",
    ),
    pytest.param(
        "auth/keys", {"source": "vault"}, "auth.keys: source must be file or kubernetes", id="a source"
    ),
    pytest.param("auth/keys", {"source": "file"}, "auth.keys.path: required", id="files without their place"),
    pytest.param(
        "auth/keys",
        {"source": "kubernetes", "path": "/keys"},
        "auth.keys.secret: required",
        id="a Secret without its name",
    ),
    pytest.param("auth/keys", "keys", "auth.keys: source must be", id="no section"),
    pytest.param("auth/jwt", [issuer(jwks={})], "auth.jwt.0.jwks: give either file or url", id="no key set"),
    pytest.param(
        "auth/jwt",
        [issuer(jwks={"url": "http://corp/keys"})],
        "auth.jwt.0.jwks.url: String should match pattern '^https:",
        id="a key set in the clear",
    ),
    pytest.param(
        "auth/jwt", [issuer(algorithms=["HS256"])], "auth.jwt.0.algorithms.0: Input should be", id="a secret"
    ),
    pytest.param(
        "auth/jwt", [issuer(algorithms=[])], "auth.jwt.0.algorithms: Tuple should", id="no algorithm"
    ),
    pytest.param(
        "auth/jwt",
        [issuer(claims={"grants": [{"claim": "groups", "value": "ai"}]})],
        "auth.jwt.0.claims: name the claim that holds the tenant, or give every grant its tenant",
        id="tokens of no tenant",
    ),
    pytest.param(
        "auth/jwt",
        [issuer(), issuer(name="b")],
        "auth: jwt: two issuers have the issuer",
        id="one issuer twice",
    ),
    pytest.param(
        "auth/jwt",
        [issuer(), issuer(issuer="b")],
        "auth: jwt: two issuers have the name",
        id="one name twice",
    ),
    pytest.param(
        "gateway",
        {"listen": "8080"},
        "gateway.listen: String should match pattern",
        id="a port without its host",
    ),
]


@pytest.mark.parametrize(("place", "value", "message"), WRONG)
def test_each_mistake_is_named_by_its_place(place: str, value: Any, message: str) -> None:
    """The error holds the path in the document and the reason."""
    with pytest.raises(SettingsError) as caught:
        settings.parse(change(RIGHT, place, value), origin="config.yaml")
    assert message in str(caught.value)
    assert str(caught.value).startswith("config.yaml")


REDIS: list[Any] = [
    pytest.param({"store": "redis"}, "store is redis, so redis.url is required", id="no redis described"),
    pytest.param({"redis": {"url": "redis://r"}}, "redis is described, but store is memory", id="unused"),
    pytest.param({"store": "file"}, "limits.store: Input should be 'memory' or 'redis'", id="another store"),
    pytest.param(
        {"redis": {"url": "redis://u:p@r"}}, "limits.redis.url: String should", id="secret in the url"
    ),
    pytest.param({"redis": {"url": "http://r"}}, "limits.redis.url: String should", id="another scheme"),
    pytest.param(
        {"redis": {"url": "redis://main:6379", "sentinels": ["s:26379"]}},
        "url has a port, but sentinels tell the port",
        id="two ports",
    ),
    pytest.param({"redis": {"url": "redis://r", "user": "u"}}, "user needs password_file", id="no password"),
    pytest.param(
        {"redis": {"url": "redis://r", "ca_file": "/ca"}}, "rediss://", id="authorities without TLS"
    ),
    pytest.param(
        {"redis": {"url": "redis://r", "sentinel_password_file": "/p"}},
        "sentinel_password_file needs sentinels",
        id="no sentinels",
    ),
    pytest.param(
        {"defaults": {"tokens_per_min": 100_000_001}}, "less than or equal to 100000000", id="beyond doubles"
    ),
]


@pytest.mark.parametrize(("limits", "message"), REDIS)
def test_limits_that_do_not_fit_together_are_named(limits: dict[str, Any], message: str) -> None:
    """What contradicts itself in the limits' section is refused, with the reason."""
    with pytest.raises(SettingsError) as caught:
        settings.parse({**RIGHT, "limits": limits}, origin="config.yaml")
    assert message in str(caught.value)


@pytest.mark.parametrize(("url", "parts"), [
    ("redis://limits", ("limits", 6379, 0, False)), ("rediss://limits:7000/3", ("limits", 7000, 3, True)),
    ("redis://[::1]:7000", ("::1", 7000, 0, False)), ("redis://MyMaster/1", ("MyMaster", 6379, 1, False)),
])  # fmt: skip
def test_a_url_says_where_redis_is(url: str, parts: tuple[str, int, int, bool]) -> None:
    """Host, port, database and TLS are read from it; the host, perhaps a Sentinel's name, keeps its case."""
    limits = {"store": "redis", "redis": {"url": url}}
    redis = settings.parse({**RIGHT, "limits": limits}, origin="c").limits.redis
    assert redis is not None
    assert (redis.host, redis.port, redis.database, redis.tls) == parts


def test_all_mistakes_are_told_at_once() -> None:
    """Two mistakes are two lines of one error."""
    wrong = change(change(RIGHT, "loging", {}), "auth/pepper_file", None)
    with pytest.raises(SettingsError) as caught:
        settings.parse(wrong, origin="config.yaml")
    assert "2 mistake(s)" in str(caught.value)


def test_keys_may_be_in_a_secret() -> None:
    """A Kubernetes Secret is named instead of a directory; a directory needs not say so."""
    secret = {"source": "kubernetes", "secret": "keys", "namespace": "serving"}
    loaded = settings.parse(change(RIGHT, "auth/keys", secret), origin="config.yaml").auth.keys
    assert loaded == settings.KeySecretSettings(secret="keys", namespace="serving")
    assert settings.parse(RIGHT, origin="config.yaml").auth.keys.source == "file"


FILES: list[Any] = [
    pytest.param(lambda _path: None, "no such file", id="missing"),
    pytest.param(lambda path: path.write_text("a: [1"), "not valid YAML", id="malformed"),
    pytest.param(lambda path: path.write_bytes(b"\xff\xfe"), "cannot be read", id="not text"),
    pytest.param(lambda path: path.write_text("- 1"), "must be a mapping", id="a list"),
    pytest.param(lambda path: path.write_text(""), "must be a mapping", id="empty"),
]


@pytest.mark.parametrize(("write", "message"), FILES)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, write: Callable[[Path], None], message: str
) -> None:
    """A file that is missing or malformed is named, with the reason."""
    path = tmp_path / "config.yaml"
    write(path)
    with pytest.raises(SettingsError, match=message) as caught:
        settings.load(path)
    assert str(path) in str(caught.value)


def test_a_document_survives_yaml(tmp_path: Path) -> None:
    """What is dumped as YAML loads as the same settings."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(RIGHT))
    assert settings.load(path) == settings.parse(RIGHT, origin="memory")


def test_the_file_is_found_by_option_environment_and_default() -> None:
    """The option wins over the environment, the environment over the default."""
    environment = {settings.PATH_VARIABLE: "/from/environment.yaml"}
    assert settings.find_path(Path("/given.yaml"), environment) == Path("/given.yaml")
    assert settings.find_path(None, environment) == Path("/from/environment.yaml")
    assert settings.find_path(None, {}) == settings.DEFAULT_PATH


def test_every_field_is_documented() -> None:
    """Each field of the document, or the section it holds, has a description in its JSON Schema."""
    schema = Settings.model_json_schema()
    models = [schema, *schema["$defs"].values()]
    silent = [
        f"{model['title']}.{name}"
        for model in models
        for name, field in model.get("properties", {}).items()
        if "description" not in field
        and "description" not in schema["$defs"].get(field.get("$ref", "").split("/")[-1], {})
    ]
    assert silent == []
