"""Who made a bundle: ed25519 signatures of its manifest, with keys and signatures as openssl has them.

``openssl genpkey -algorithm ed25519`` makes a key too, ``openssl pkeyutl -verify -rawin`` checks a signature.
"""

import hashlib
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from deploy.bundle.errors import BundleError

PRIVATE, PUBLIC = "bundle-signing.pem", "bundle-signing.pub.pem"


class SignatureError(BundleError):
    """A manifest is not from whom it should be, or was changed."""


def make_keys(directory: Path) -> tuple[Path, Path]:
    """Write a new pair of keys; return the private one's path and the public one's. Raises `BundleError`."""
    private, public = directory / PRIVATE, directory / PUBLIC
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        private.touch(mode=0o600, exist_ok=False)
        private.write_bytes(pem)
        public.write_bytes(_public_pem(key.public_key()))
    except FileExistsError as error:
        raise BundleError(
            f"{error.filename} exists: a key is never overwritten; name another folder"
        ) from error
    return private, public


def read_private(path: Path) -> Ed25519PrivateKey:
    """Read a private key from a PEM file. Raises `BundleError`."""
    try:
        key = serialization.load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError) as error:
        raise BundleError(f"{path}: no private key in PEM without a password ({error})") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BundleError(f"{path}: not an ed25519 key; make one with `gpt-oss-cluster bundle keygen`")
    return key


def read_public(path: Path) -> Ed25519PublicKey:
    """Read a public key from a PEM file. Raises `BundleError`."""
    try:
        key = serialization.load_pem_public_key(_read(path))
    except ValueError as error:
        raise BundleError(f"{path}: no public key in PEM ({error})") from error
    if not isinstance(key, Ed25519PublicKey):
        raise BundleError(f"{path}: not an ed25519 key")
    return key


def fingerprint(key: Ed25519PublicKey) -> str:
    """Return the SHA-256 of a public key (of its DER form), hex: short enough to compare by telephone."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def require_signed(data: bytes, signature: bytes, key: Ed25519PublicKey, *, origin: str) -> None:
    """Raise `SignatureError` unless ``signature`` is this key's for ``data``."""
    try:
        key.verify(signature, data)
    except InvalidSignature as error:
        raise SignatureError(
            f"{origin}: the signature is not that of the key {fingerprint(key)}: somebody else made the "
            "bundle, or its manifest was changed; ask its maker for the bundle and the key's fingerprint"
        ) from error


def _public_pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}") from error
