"""What an image holds: Python, Debian and Alpine packages, read out of its layers or out of a lock file."""

import email
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from deploy.bundle import choice
from deploy.bundle.archives import Archive
from deploy.bundle.errors import BundleError

Kind = Literal["pypi", "deb", "apk"]
"""The type of a package URL."""

_DPKG = re.compile(r"var/lib/dpkg/(status|status\.d/[^/]+)")
_APK = re.compile(r"(usr/)?lib/apk/db/installed")
_PYTHON = re.compile(r".*\.dist-info/METADATA")
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"


@dataclass(frozen=True, slots=True, order=True)
class Package:
    """One package."""

    kind: Kind
    name: str
    version: str
    licence: str = ""
    """As its metadata says; empty if they say nothing."""


def of_lock(text: str) -> list[Package]:
    """Return the packages that a lock file pins."""
    return sorted(Package("pypi", pin.name, pin.version) for pin in choice.pins(text))


def of_archive(archive: Archive) -> list[Package]:
    """Return the packages of an archive's image, as all its layers leave them. Raises `BundleError`."""
    kept: dict[str, bytes] = {}
    for layer in archive.layers():
        try:
            with tarfile.open(fileobj=layer, mode="r|*") as tar:
                _lay(tar, kept)
        except tarfile.TarError as error:
            raise BundleError(
                f"{archive.path}: a layer cannot be read ({error}): save the image gzipped or uncompressed"
            ) from error
    return sorted({package for path, data in kept.items() for package in _packages(path, data)})


def _lay(tar: tarfile.TarFile, kept: dict[str, bytes]) -> None:
    """Lay one layer over what is there: take files that matter, drop those that it removes."""
    for member in tar:
        path = PurePosixPath(member.name.removeprefix("./").lstrip("/"))
        if path.name == _OPAQUE:
            _drop(kept, f"{path.parent}/")
        elif path.name.startswith(_WHITEOUT):
            gone = str(path.with_name(path.name.removeprefix(_WHITEOUT)))
            kept.pop(gone, None)
            _drop(kept, f"{gone}/")
        elif member.isfile() and any(kind.fullmatch(str(path)) for kind in (_DPKG, _APK, _PYTHON)):
            file = tar.extractfile(member)
            kept[str(path)] = file.read() if file else b""


def _drop(kept: dict[str, bytes], prefix: str) -> None:
    for path in [path for path in kept if path.startswith(prefix)]:
        del kept[path]


def _packages(path: str, data: bytes) -> Iterator[Package]:
    text = data.decode(errors="replace")
    if _PYTHON.fullmatch(path):
        found = email.message_from_string(text)
        licence = found.get("License-Expression") or found.get("License") or ""
        if found["Name"] and found["Version"]:
            name = re.sub(r"[-_.]+", "-", found["Name"]).lower()
            yield Package("pypi", name, found["Version"], licence if "\n" not in licence else "")
    elif _DPKG.fullmatch(path):
        for block in text.split("\n\n"):
            fields = email.message_from_string(block)
            if fields["Package"] and fields["Version"] and "not-installed" not in fields.get("Status", ""):
                yield Package("deb", fields["Package"], fields["Version"])
    else:
        for block in text.split("\n\n"):
            fields = email.message_from_string("\n".join(_apk_lines(block)))
            if fields["P"] and fields["V"]:
                yield Package("apk", fields["P"], fields["V"], fields.get("L", ""))


def _apk_lines(block: str) -> list[str]:
    """Return the lines of name, version and licence; others repeat and are no headers."""
    return [line for line in block.splitlines() if line[:2] in ("P:", "V:", "L:")]
