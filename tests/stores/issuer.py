"""An issuer of tokens for tests: real keys, real signatures, its key set over real TLS."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.certificates import Certificates

ISSUER, AUDIENCE = "https://login.example.com/realms/ai", "gpt-oss"
Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def private_key(name: str, kind: str = "RSA") -> Private:
    """Return the private key of this name; made once, for that takes time."""
    return _made(name, kind)


@cache
def _made(_name: str, kind: str) -> Private:
    if kind.startswith("RSA"):
        return rsa.generate_private_key(65537, int(kind.removeprefix("RSA") or 2048))
    if kind == "EC":
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate()


def jwk(name: str, kind: str = "RSA", **changes: Any) -> dict[str, Any]:
    """Return a public key as an issuer publishes it; a member given as None is left out."""
    key = private_key(name, kind).public_key()
    algorithm: Any = {"RSA": jwt.algorithms.RSAAlgorithm, "EC": jwt.algorithms.ECAlgorithm}.get(
        "RSA" if kind.startswith("RSA") else kind, jwt.algorithms.OKPAlgorithm
    )
    made = {**algorithm.to_jwk(key, as_dict=True), "kid": name, "use": "sig", **changes}
    made.pop("key_ops", None) if "key_ops" not in changes else None
    return {member: value for member, value in made.items() if value is not None}


def jwks(*keys: dict[str, Any]) -> bytes:
    """Return a key set."""
    return json.dumps({"keys": keys}).encode()


def claims(**changes: Any) -> dict[str, Any]:
    """Return good claims; one given as None is left out."""
    made = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "svc-search",
        "exp": int(time.time()) + 600,
        "tenant": "ads",
        **changes,
    }
    return {name: value for name, value in made.items() if value is not None}


def token(
    key: Any = None, algorithm: str = "RS256", headers: dict[str, Any] | None = None, **changes: Any
) -> str:
    """Return a token, good unless changed."""
    signing = private_key("k1") if key is None else key
    return jwt.encode(claims(**changes), signing, algorithm, {"kid": "k1", **(headers or {})})


class KeyServer:
    """Serves a key set over TLS."""

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates
        self.body, self.status = jwks(jwk("k1")), 200
        self.asked = 0
        self.hang = asyncio.Event()
        """Set while answers are given."""
        self.hang.set()
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator["KeyServer"]:
        """Serve for the length of the context."""
        app = web.Application()
        app.router.add_get("/jwks", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._certificates.server()).start()
        self.url = f"https://127.0.0.1:{runner.addresses[0][1]}/jwks"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _answer(self, _request: web.Request) -> web.Response:
        self.asked += 1
        await self.hang.wait()
        headers = {"location": self.url} if self.status == 302 else {}
        return web.Response(body=self.body, status=self.status, headers=headers)
