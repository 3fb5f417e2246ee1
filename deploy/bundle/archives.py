"""Archives of images: which image is inside, and whether every blob is what its name says.

Two kinds: an OCI layout (``skopeo copy … oci-archive:``, builders, ``docker save`` since Docker 25), whose
images keep their digests in any registry; and the older form of ``docker save``, which has no digests yet.
"""

import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from deploy.bundle.errors import BundleError
from deploy.bundle.transfer import Progress

_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_BLOBS = "blobs/sha256/"


class Archive:
    """An archive of an image, opened for reading. Raises `BundleError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._tar = tarfile.open(path)  # noqa: SIM115 - closed by __exit__
        except (OSError, tarfile.TarError) as error:
            raise BundleError(f"{path}: no tar file that can be read ({error})") from error
        self._members = {member.name.removeprefix("./"): member for member in self._tar if member.isfile()}
        if not {"index.json", "manifest.json"} & self._members.keys():
            self._tar.close()
            raise BundleError(
                f"{path}: no archive of an image: neither index.json nor manifest.json is inside"
            )

    def __enter__(self) -> "Archive":
        """Return it."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file."""
        self._tar.close()

    def digests(self) -> frozenset[str]:
        """Return the digests under which a registry will know its images; none for the older form."""
        return frozenset(entry["digest"] for entry in self._entries())

    def require_whole(self, progress: Progress) -> None:
        """Raise `BundleError` unless each blob has the hash that is its name."""
        for name, member in self._members.items():
            if name.startswith(_BLOBS):
                digest = hashlib.sha256()
                with self._file(name) as file:
                    while chunk := file.read(1 << 20):
                        digest.update(chunk)
                        progress.advance(len(chunk))
                if digest.hexdigest() != name.removeprefix(_BLOBS):
                    raise BundleError(f"{self.path}: {name} is damaged: save the image again")
            else:
                progress.advance(member.size)

    def layers(self) -> Iterator[IO[bytes]]:
        """Yield the layers of its (first) image, lowest first, each as a tar file that may be compressed."""
        for name in self._layer_names():
            if name not in self._members:
                raise BundleError(f"{self.path}: {name} is missing: save the image again")
            with self._file(name) as file:
                yield file

    def _layer_names(self) -> list[str]:
        if "manifest.json" in self._members:
            return list(self._json("manifest.json")[0]["Layers"])
        for entry in self._entries():
            manifest = self._json(_blob(entry["digest"]))
            if "layers" in manifest and "unknown" not in str(entry.get("platform", "")):
                return [_blob(layer["digest"]) for layer in manifest["layers"]]
        return []

    def _entries(self) -> list[dict[str, Any]]:
        """Return the descriptors of its images, those inside nested indexes too."""
        found = []
        waiting = list(self._json("index.json")["manifests"]) if "index.json" in self._members else []
        while waiting:
            entry = waiting.pop(0)
            found.append(entry)
            if entry.get("mediaType") in _INDEXES:
                waiting.extend(self._json(_blob(entry["digest"]))["manifests"])
        return found

    def _json(self, name: str) -> Any:
        if name not in self._members:
            raise BundleError(f"{self.path}: {name} is missing: save the image again")
        with self._file(name) as file:
            try:
                return json.load(file)
            except ValueError as error:
                raise BundleError(f"{self.path}: {name} is no JSON: save the image again") from error

    def _file(self, name: str) -> IO[bytes]:
        file = self._tar.extractfile(self._members[name])
        if file is None:
            raise BundleError(f"{self.path}: {name} is no file")
        return file


def _blob(digest: str) -> str:
    return digest.replace("sha256:", _BLOBS)
