"""Ask a gateway for one real answer of each model, with a key of its own: what `helm test` runs.

The key belongs to a tenant that lives as long as the test, and can do no more than a few short requests.
"""

import http.client
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from cluster.settings import KeySecretSettings, RateLimits
from cluster.stores import admin
from cluster.stores.admin import Vault
from cluster.stores.key_index import load_pepper
from cluster.stores.records import KeyStoreError

MAX_OUTPUT_TOKENS = 256
PAUSE_S = 2.0
NOT_YET = frozenset({401, 429, 500, 502, 503, 504})
"""The key has not reached every gateway, the models are still loading, or a replica is being replaced."""


class SmokeError(Exception):
    """No answer, or a wrong one; the message holds the last status and error."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one model said."""

    model: str
    text: str
    output_tokens: int
    seconds: float


@contextmanager
def short_lived_key(vault: Vault, pepper: bytes, now: Callable[[], datetime]) -> Iterator[str]:
    """Make a tenant and a key, and remove both afterwards. Raises `KeyStoreError`."""
    tenant = f"helm-test-{secrets.token_hex(4)}"
    admin.set_tenant(vault, tenant, now=now(), limits=RateLimits(requests_per_min=600, concurrent=4))
    try:
        made = admin.create_key(
            vault, tenant, pepper=pepper, now=now(), label="helm test", expires_at=now() + timedelta(hours=1)
        )
        try:
            yield made.key
        finally:
            admin.revoke_key(vault, made.record.id, now=now())
    finally:
        admin.remove_tenant(vault, tenant, now=now())


def ask(url: str, key: str, model: str, *, until: float) -> Answer:
    """Return the model's answer, asking again until ``until`` where there is none. Raises `SmokeError`."""
    while True:
        begun = time.monotonic()
        status, body = _post(url, key, model, timeout_s=max(1.0, until - begun))
        if status == 200:
            return _answer(model, body, time.monotonic() - begun)
        told = f"{model}: {_told(status, body)}"
        if status not in NOT_YET and status != 0:
            raise SmokeError(told)
        if time.monotonic() + PAUSE_S > until:
            raise SmokeError(f"{told}; see `gpt-oss-cluster status`")
        time.sleep(PAUSE_S)


def _post(url: str, key: str, model: str, *, timeout_s: float) -> tuple[int, Any]:
    """Return the status, 0 where nobody answers, and the body."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
    question = {
        "model": model,
        "messages": [{"role": "user", "content": "Say hello."}],
        "reasoning_effort": "low",
        "max_completion_tokens": MAX_OUTPUT_TOKENS,
    }
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(question), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except (OSError, http.client.HTTPException) as error:
        return 0, {"error": {"message": f"{url} cannot be reached: {error}"}}
    except ValueError:
        return answer.status, {"error": {"message": "the answer is no JSON"}}
    finally:
        connection.close()


def _answer(model: str, body: Any, seconds: float) -> Answer:
    try:
        [choice] = body["choices"]
        text, tokens = choice["message"]["content"] or "", body["usage"]["completion_tokens"]
        finish = choice["finish_reason"]
    except (KeyError, TypeError, ValueError) as error:
        raise SmokeError(f"{model}: 200, but no chat completion: {error!r}") from error
    if not tokens or (finish == "stop" and not text):
        raise SmokeError(f"{model}: 200, but an empty answer ({tokens} tokens, finish_reason {finish})")
    return Answer(model, text, tokens, seconds)


def _told(status: int, body: Any) -> str:
    error = body.get("error") if isinstance(body, dict) else None
    message = error.get("message") if isinstance(error, dict) else body
    return f"{status or 'no answer'}: {message}"


def main(
    url: Annotated[str, typer.Option(help="Address of the gateway.")],
    secret: Annotated[str, typer.Option(help="Secret that holds tenants and keys.")],
    pepper_file: Annotated[Path, typer.Option(help="File with the pepper.")],
    model: Annotated[list[str], typer.Option(help="Model to ask; may be repeated.")],
    patience_s: Annotated[float, typer.Option(help="Seconds to wait for answers.")] = 240,
) -> None:
    """Ask each model; exit status 1 where one gives no answer, 3 where the Secret cannot be reached."""
    from cluster.stores.secret_vault import SecretVault  # noqa: PLC0415 - its import takes most of a second

    until = time.monotonic() + patience_s
    try:
        vault = SecretVault(KeySecretSettings(secret=secret))
        with short_lived_key(vault, load_pepper(pepper_file), lambda: datetime.now(UTC)) as key:
            for name in model:
                answer = ask(url, key, name, until=until)
                typer.echo(f"{name}: {answer.output_tokens} tokens in {answer.seconds:.1f} s")
    except (KeyStoreError, SmokeError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1 if isinstance(error, SmokeError) else 3) from None


if __name__ == "__main__":
    typer.run(main)
