"""Archives of images, made of a few files: as an OCI layout, and in the older form of ``docker save``."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

Layer = Mapping[str, bytes]


def tar_of(files: Layer) -> bytes:
    """Return a tar file with these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def digest_of(data: bytes) -> str:
    """Return the digest of a blob."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def write_oci(path: Path, layers: Sequence[Layer], *, nested: bool = False) -> str:
    """Write an OCI layout as a tar file; return the image's digest.

    ``nested``: the layout's index names an index of two images, as builders for several machines write it.
    """
    blobs = {}

    def blob(data: bytes, kind: str) -> dict[str, object]:
        blobs[digest_of(data)] = data
        return {
            "mediaType": f"application/vnd.oci.image.{kind}",
            "digest": digest_of(data),
            "size": len(data),
        }

    packed = [blob(gzip.compress(tar_of(layer), mtime=0), "layer.v1.tar+gzip") for layer in layers]
    document = {"schemaVersion": 2, "config": blob(b"{}", "config.v1+json"), "layers": packed}
    top = blob(json.dumps(document).encode(), "manifest.v1+json")
    if nested:
        proof = blob(b'{"layers": []}', "manifest.v1+json") | {"platform": {"architecture": "unknown"}}
        top = blob(json.dumps({"manifests": [proof, top]}).encode(), "index.v1+json")
    files = {f"blobs/sha256/{digest.partition(':')[2]}": data for digest, data in blobs.items()}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()
    files["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    path.write_bytes(tar_of(files))
    return str(top["digest"])


def write_docker(path: Path, layers: Sequence[Layer]) -> None:
    """Write an archive as ``docker save`` did before Docker 25."""
    files = {f"{number}/layer.tar": tar_of(layer) for number, layer in enumerate(layers)}
    entry = {"Config": "config.json", "RepoTags": ["x:1"], "Layers": list(files)}
    files["config.json"] = b"{}"
    files["manifest.json"] = json.dumps([entry]).encode()
    path.write_bytes(tar_of(files))
