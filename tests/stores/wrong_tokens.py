"""Tokens that are wrong in every way that is known, for tests that say what becomes of them."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization

from cluster.stores.tokens import LEEWAY_S, MAX_TOKEN_BYTES
from tests.stores.issuer import AUDIENCE, ISSUER, claims, jwk, private_key, token


def encoded(part: Any) -> str:
    """Return one part of a token."""
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(header: dict[str, Any], signature: str = "") -> str:
    """Return a token with this header, good claims, and a signature that is none."""
    return f"{encoded(header)}.{encoded(claims())}.{signature}"


def signed(header: dict[str, Any], payload: Any) -> str:
    """Return a token with a good signature over whatever it holds."""
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return jwt.api_jws.encode(data, private_key("k1"), "RS256", header)


def signed_with_the_public_key() -> str:
    """Return the classic confusion: HS256 under the public key, which everybody has."""
    public = private_key("k1").public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    signing = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    head = f"{encoded({'alg': 'HS256', 'typ': 'JWT', 'kid': 'k1'})}.{encoded(claims())}"
    return f"{head}.{encoded(signing.sign(head.encode(), pem))}"


def own_key(**header: Any) -> str:
    """Return a token signed with an attacker's key that its header names in some way."""
    return token(private_key("attacker"), headers=header)


def changed(part: int) -> str:
    """Return a good token with another byte in one of its parts."""
    parts = token().split(".")
    middle = len(parts[part]) // 2
    parts[part] = (
        parts[part][:middle] + ("A" if parts[part][middle] != "A" else "B") + parts[part][middle + 1 :]
    )
    return ".".join(parts)


WRONG: dict[str, Callable[[], str]] = {
    "alg none": lambda: forged({"alg": "none", "typ": "JWT", "kid": "k1"}),
    "alg None": lambda: forged({"alg": "None", "typ": "JWT", "kid": "k1"}),
    "alg missing": lambda: forged({"typ": "JWT", "kid": "k1"}),
    "alg a list": lambda: forged({"alg": ["RS256"], "kid": "k1"}),
    "HS256 under the public key": signed_with_the_public_key,
    "an algorithm that is not allowed": lambda: token(algorithm="RS512"),
    "another key's algorithm": lambda: token(private_key("e1", "EC"), "ES256"),
    "wrong issuer": lambda: token(iss="https://login.example.com/realms/other"),
    "issuer with a slash more": lambda: token(iss=ISSUER + "/"),
    "beginning of the issuer": lambda: token(iss=ISSUER[:-1]),
    "issuer a list": lambda: signed({"kid": "k1"}, {**claims(), "iss": [ISSUER]}),
    "claims a list": lambda: signed({"kid": "k1"}, [claims()]),
    "claims deep": lambda: signed({"kid": "k1"}, b"[" * 3000),
    "claims no JSON": lambda: signed({"kid": "k1"}, b"{"),
    "no issuer": lambda: token(iss=None),
    "wrong audience": lambda: token(aud="another-service"),
    "audience a list": lambda: token(aud=[AUDIENCE]),
    "audience a list of several": lambda: token(aud=["account", AUDIENCE]),
    "no audience": lambda: token(aud=None),
    "no expiry": lambda: token(exp=None),
    "expired": lambda: token(exp=int(time.time()) - LEEWAY_S - 5),
    "expiry a word": lambda: token(exp="tomorrow"),
    "expiry endless": lambda: token(exp=float("inf")),
    "not yet good": lambda: token(nbf=int(time.time()) + LEEWAY_S + 30),
    "from the future": lambda: token(iat=int(time.time()) + LEEWAY_S + 30),
    "no subject": lambda: token(sub=None),
    "subject empty": lambda: token(sub=""),
    "subject with a line's end": lambda: token(sub="svc\nadmin"),
    "subject too long": lambda: token(sub="x" * 256),
    "no tenant": lambda: token(tenant=None),
    "unknown tenant": lambda: token(tenant="nobody"),
    "tenant a path": lambda: token(tenant="../ads"),
    "critical header": lambda: token(headers={"crit": ["exp"], "exp": 1}),
    "critical header that PyJWT knows": lambda: token(headers={"crit": ["b64"], "b64": True}),
    "payload not encoded": lambda: forged({"alg": "RS256", "kid": "k1", "b64": False, "crit": ["b64"]}),
    "compressed": lambda: token(headers={"zip": "DEF"}),
    "encrypted": lambda: f"{encoded({'alg': 'RSA-OAEP', 'enc': 'A256GCM', 'kid': 'k1'})}.a.b.c.d",
    "a token in a token": lambda: token(headers={"cty": "JWT"}),
    "another type": lambda: token(headers={"typ": "logout+jwt"}),
    "no key id": lambda: signed({}, claims()),
    "unknown key id": lambda: token(headers={"kid": "k2"}),
    "key id a path": lambda: token(headers={"kid": "../../../dev/null"}),
    "key id SQL": lambda: token(headers={"kid": "k1' UNION SELECT 'x"}),
    "key id empty": lambda: token(headers={"kid": ""}),
    "key id a number": lambda: forged({"alg": "RS256", "kid": 1}, "x"),
    "key id a list": lambda: forged({"alg": "RS256", "kid": ["k1"]}, "x"),
    "key id endless": lambda: token(headers={"kid": "k" * 5000}),
    "a stranger's key": own_key,
    "a stranger's key by jku": lambda: own_key(jku="https://attacker.example/jwks"),
    "a stranger's key by x5u": lambda: own_key(x5u="https://attacker.example/x509"),
    "a stranger's key by jwk": lambda: own_key(jwk=jwk("attacker")),
    "a stranger's key by x5c": lambda: own_key(x5c=["MIIB"]),
    "header changed": lambda: changed(0),
    "claims changed": lambda: changed(1),
    "signature changed": lambda: changed(2),
    "no signature": lambda: token().rpartition(".")[0] + ".",
    "two parts": lambda: token().rpartition(".")[0],
    "four parts": lambda: token() + ".x",
    "dots": lambda: "..",
    "a dot": lambda: ".",
    "header a list": lambda: f"{encoded([])}.{encoded(claims())}.x",
    "header deep": lambda: f"{encoded(b'[' * 3000)}.a.b",
    "header no JSON": lambda: f"{encoded(b'{')}.a.b",
    "header no text": lambda: f"{encoded(bytes(range(200, 250)))}.a.b",
    "too long": lambda: token(pad="x" * MAX_TOKEN_BYTES),
    "much too long": lambda: "a." * 500_000,
    "not ASCII": lambda: token() + "é",
}
