"""Bundles are signed with ed25519, by keys and in a form that openssl knows."""

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from deploy.bundle import signing
from deploy.bundle.errors import BundleError
from deploy.bundle.manifest import MANIFEST, SIGNATURE
from tests.deploy.bundles import sealed

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the program openssl")


def openssl(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run openssl."""
    return subprocess.run(
        ["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=20, check=False
    )


def test_a_private_key_is_its_owners_alone(tmp_path: Path) -> None:
    """The file has mode 0600, and the public one is its other half."""
    private, public = signing.make_keys(tmp_path / "keys")
    assert oct(private.stat().st_mode)[-3:] == "600"
    half = signing.read_private(private).public_key()
    assert signing.fingerprint(half) == signing.fingerprint(signing.read_public(public))


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    """A second `keygen` refuses, and the first key stays."""
    private, _ = signing.make_keys(tmp_path)
    before = private.read_bytes()
    with pytest.raises(BundleError, match="exists: a key is never overwritten"):
        signing.make_keys(tmp_path)
    assert private.read_bytes() == before


@needs_openssl
def test_openssl_accepts_the_signature(tmp_path: Path) -> None:
    """A security officer can check a bundle without this program; a changed manifest fails."""
    private, public = signing.make_keys(tmp_path / "keys")
    bundle = sealed(tmp_path / "bundle", "gpt-oss-20b", key=signing.read_private(private))
    command = ("pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in", bundle / MANIFEST)
    accepted = openssl(*command, "-sigfile", bundle / SIGNATURE)
    assert "Signature Verified Successfully" in accepted.stdout, accepted.stderr
    (bundle / MANIFEST).write_bytes((bundle / MANIFEST).read_bytes() + b" ")
    assert openssl(*command, "-sigfile", bundle / SIGNATURE).returncode != 0


@needs_openssl
def test_keys_of_openssl_work(tmp_path: Path) -> None:
    """A pair that openssl made signs and verifies."""
    private, public = tmp_path / "key.pem", tmp_path / "key.pub.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    signature = signing.read_private(private).sign(b"manifest")
    signing.require_signed(b"manifest", signature, signing.read_public(public), origin="test")


def test_a_key_of_another_kind_is_told(tmp_path: Path) -> None:
    """Neither an EC key nor a file that is none is taken; the message names the file."""
    key = ec.generate_private_key(ec.SECP256R1())
    path = tmp_path / "key.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    with pytest.raises(BundleError, match=r"key\.pem: not an ed25519 key; make one with .*keygen"):
        signing.read_private(path)
    path.write_text("nothing")
    with pytest.raises(BundleError, match=r"key\.pem: no private key in PEM"):
        signing.read_private(path)
    with pytest.raises(BundleError, match=r"key\.pem: no public key in PEM"):
        signing.read_public(path)
    with pytest.raises(BundleError, match="No such file"):
        signing.read_public(tmp_path / "none")
