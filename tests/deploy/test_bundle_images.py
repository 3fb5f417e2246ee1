"""Archives of images: what is inside is told by its digest, its packages and its damages."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from deploy.bundle import inventory, registry, sbom
from deploy.bundle.archives import Archive
from deploy.bundle.errors import BundleError
from deploy.bundle.inventory import Package
from deploy.bundle.manifest import Image, Manifest
from tests.deploy.bundles import Count
from tests.deploy.image_archives import Layer, digest_of, tar_of, write_docker, write_oci

DPKG = b"""Package: libc6
Status: install ok installed
Version: 2.36-9+deb12u10
Description: the C library
 Package: not a field

Package: gone
Status: purge ok not-installed
Version: 1

"""
APK = b"C:Q1\nP:musl\nV:1.2.5-r1\nL:MIT\nF:lib\n\nP:busybox\nV:1.37.0-r8\nL:GPL-2.0-only\n"
METADATA = (
    b"Metadata-Version: 2.4\nName: PyYAML\nVersion: 6.0.3\nLicense-Expression: MIT\n\nText: not a field\n"
)
SITE = "opt/venv/lib/python3.11/site-packages"
LAYERS: list[Layer] = [
    {"var/lib/dpkg/status": DPKG, f"{SITE}/old-1.0.dist-info/METADATA": b"Name: old\nVersion: 1.0\n"},
    {f"{SITE}/PyYAML-6.0.3.dist-info/METADATA": METADATA, f"{SITE}/.wh.old-1.0.dist-info": b""},
]
FOUND = [Package("deb", "libc6", "2.36-9+deb12u10"), Package("pypi", "pyyaml", "6.0.3", "MIT")]


def in_docker_form(path: Path, layers: Sequence[Layer]) -> str:
    """Write the older form, which has no digest."""
    write_docker(path, layers)
    return ""


def in_nested_form(path: Path, layers: Sequence[Layer]) -> str:
    """Write an index in the index."""
    return write_oci(path, layers, nested=True)


@pytest.mark.parametrize("write", [write_oci, in_nested_form, in_docker_form])
def test_packages_are_read_out_of_the_layers(
    tmp_path: Path, write: Callable[[Path, Sequence[Layer]], str]
) -> None:
    """Debian's and Python's, less what a later layer removed and what is not installed; in every form."""
    digest = write(tmp_path / "image.tar", LAYERS)
    with Archive(tmp_path / "image.tar") as archive:
        archive.require_whole(Count())
        assert inventory.of_archive(archive) == FOUND
        assert (digest in archive.digests()) == bool(digest)


def test_packages_of_alpine_are_read() -> None:
    """The Redis image is usually built on it."""
    found = sorted(inventory._packages("lib/apk/db/installed", APK))
    assert found == [
        Package("apk", "busybox", "1.37.0-r8", "GPL-2.0-only"),
        Package("apk", "musl", "1.2.5-r1", "MIT"),
    ]


def test_an_opaque_folder_hides_what_was_in_it(tmp_path: Path) -> None:
    """As a layer that replaces a whole folder says it."""
    write_oci(tmp_path / "image.tar", [*LAYERS, {f"{SITE}/.wh..wh..opq": b""}])
    with Archive(tmp_path / "image.tar") as archive:
        assert inventory.of_archive(archive) == FOUND[:1]


def test_a_damaged_blob_is_named(tmp_path: Path) -> None:
    """One changed byte in a layer, and the blob whose name it no longer fits."""
    path = tmp_path / "image.tar"
    write_oci(path, [{"file": bytes(5000)}])
    data = path.read_bytes()
    packed = data.index(b"\x1f\x8b")
    path.write_bytes(data[: packed + 30] + bytes([data[packed + 30] ^ 1]) + data[packed + 31 :])
    with Archive(path) as archive, pytest.raises(BundleError, match=r"blobs/sha256/\w+ is damaged"):
        archive.require_whole(Count())


@pytest.mark.parametrize(
    ("data", "told"),
    [(b"nothing", "no tar file"), (tar_of({"x": b""}), "neither index.json nor manifest.json")],
)
def test_what_is_no_archive_is_told(tmp_path: Path, data: bytes, told: str) -> None:
    """The message names the file."""
    (tmp_path / "image.tar").write_bytes(data)
    with pytest.raises(BundleError, match=rf"image\.tar: .*{told}"):
        Archive(tmp_path / "image.tar")


def test_a_lock_lists_what_is_pinned() -> None:
    """Names are normalised; markers and extras are no part of them."""
    lock = (
        "Foo.Bar[x]==1.0 ; python_version > '3' \\\n    --hash=sha256:"
        + "a" * 64
        + "\n    # via baz\nbaz==2.0\n"
    )
    assert inventory.of_lock(lock) == [Package("pypi", "baz", "2.0"), Package("pypi", "foo-bar", "1.0")]


def test_a_bill_of_materials_is_valid_cyclonedx() -> None:
    """By the schema, strictly; licences that are no SPDX expression are told as names."""
    packages = [*FOUND, Package("pypi", "odd", "1", "Do what you like"), Package("apk", "musl", "1.2.5-r1")]
    reference = f"gateway@{digest_of(b'image')}"
    text = sbom.document("gateway", reference, packages, now=datetime(2026, 11, 24, tzinfo=UTC))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = json.loads(text)
    assert document["metadata"]["component"]["version"] == digest_of(b"image")
    purls = {component["purl"] for component in document["components"]}
    assert "pkg:pypi/pyyaml@6.0.3" in purls
    assert "pkg:deb/debian/libc6@2.36-9%2Bdeb12u10" in purls
    licences = {component["name"]: component.get("licenses") for component in document["components"]}
    assert licences["pyyaml"] == [{"license": {"id": "MIT"}}]
    assert licences["odd"] == [{"license": {"name": "Do what you like"}}]


def test_the_same_image_has_the_same_document() -> None:
    """Nothing in it is random, so that two runs can be compared."""
    now = datetime(2026, 11, 24, tzinfo=UTC)
    first, second = (
        sbom.document("gateway", "x@y", packages, now=now) for packages in (FOUND, list(reversed(FOUND)))
    )
    assert first == second


DIGEST = digest_of(b"image")


@pytest.mark.parametrize(
    ("reference", "target"),
    [
        (f"registry.example.com/team/gateway@{DIGEST}", "team/gateway"),
        (f"registry.example.com:5000/gateway:1.2@{DIGEST}", "gateway"),
        (f"team/gateway@{DIGEST}", "team/gateway"),
        (f"localhost/gateway@{DIGEST}", "gateway"),
        (f"redis@{DIGEST}", "redis"),
    ],
)
def test_an_image_keeps_its_path_in_the_sites_registry(reference: str, target: str) -> None:
    """Only the registry is another; the tag comes of the digest, and the digest is kept."""
    image = Image(reference=reference, archive="images/a/a.tar")
    manifest = Manifest(product="1", created="x", images={"a": image}, files={})
    (push,) = registry.pushes(manifest, Path("/bundle"), "harbor.example.com/ai/")
    assert push.command == (
        "skopeo",
        "copy",
        "--all",
        "--preserve-digests",
        "oci-archive:/bundle/images/a/a.tar",
        f"docker://harbor.example.com/ai/{target}:sha256-{DIGEST[7:19]}",
    )
    assert not push.note


def test_what_cannot_keep_its_digest_is_told() -> None:
    """The older docker-save form gets another digest; an image without archive is mirrored by the site."""
    images = {
        "a": Image(reference=f"a@{DIGEST}", archive="images/a/a.tar", keeps_digest=False),
        "b": Image(reference=f"b@{DIGEST}"),
    }
    manifest = Manifest(product="1", created="x", images=images, files={})
    older, absent = registry.pushes(manifest, Path("/bundle"), "harbor.example.com")
    assert "--preserve-digests" not in older.command
    assert "set images.a.digest" in older.note
    assert absent.command == ()
    assert f"mirror b@{DIGEST} to harbor.example.com" in absent.note
