"""A bundle is made of a recipe: what belongs in, interrupted and resumed, verified and found wanting."""

import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import vocabulary
from deploy.bundle import recipe as recipes
from deploy.bundle.create import create
from deploy.bundle.errors import BundleError, MissingError, SourceError, UnreachableError
from deploy.bundle.load import load
from deploy.bundle.manifest import MANIFEST, SIGNATURE, Manifest, parse
from deploy.bundle.seal import verify
from deploy.bundle.signing import SignatureError
from deploy.bundle.sources import DirectorySource
from tests.deploy.bundles import KEY, SHARD, Count, write_checkpoint
from tests.deploy.file_server import FileServer, serving
from tests.deploy.image_archives import write_oci

MODEL = "gpt-oss-20b"
NOW = datetime(2026, 11, 24, tzinfo=UTC)


@dataclass
class Site:
    """A machine with internet: everything that a recipe names."""

    base: Path
    document: dict[str, Any] = field(default_factory=dict)

    @property
    def bundle(self) -> Path:
        """Where the bundle is made."""
        return self.base / "bundle"

    @property
    def repository(self) -> Path:
        """The model's repository, with the copies that nobody needs."""
        return self.base / "hub" / MODEL

    def create(self, naps: list[float] | None = None) -> Manifest:
        """Make the bundle."""
        path = self.base / "recipe.yaml"
        path.write_text(yaml.safe_dump(self.document))
        sleep = (naps if naps is not None else []).append
        return create(recipes.read(path), self.base, self.bundle, KEY, now=NOW, progress=Count(), sleep=sleep)

    def findings(self) -> list[str]:
        """Verify it; return what is wrong."""
        return list(map(str, verify(self.bundle, KEY.public_key(), Count())[1]))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Return a site whose recipe has one of everything."""
    site = Site(tmp_path)
    (tmp_path / "vocabulary").mkdir()
    (tmp_path / "vocabulary" / vocabulary.FILE_NAME).write_text("words")
    monkeypatch.setattr(vocabulary, "SHA256", hashlib.sha256(b"words").hexdigest())
    chart = tmp_path / "helm" / "gpt-oss-cluster"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("name: gpt-oss-cluster\n")
    (chart / "templates" / "service.yaml").write_text("kind: Service\n")
    write_checkpoint(site.repository)
    for name in ("LICENSE", "USAGE_POLICY", "README.md", ".gitattributes", "chat_template.jinja"):
        (site.repository / name).write_text(name)
    write_checkpoint(site.repository / "original")
    (site.repository / "metal").mkdir()
    (site.repository / "metal" / "model.bin").write_bytes(bytes(1000))
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", "")
    (wheels / "other-1.0-py3-none-any.whl").write_bytes(b"not asked for")
    digest = hashlib.sha256((wheels / "tiny-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    (tmp_path / "gateway.lock").write_text(f"tiny==1.0 \\\n    --hash=sha256:{digest}\n")
    (tmp_path / "LICENSE").write_text("Apache 2.0")
    (tmp_path / "gateway.Dockerfile").write_text("ARG PYTHON_IMAGE")
    (tmp_path / "project-1.0-py3-none-any.whl").write_bytes(b"project")
    (tmp_path / "debs").mkdir()
    (tmp_path / "debs" / "wget.deb").write_bytes(b"wget")
    image = write_oci(tmp_path / "gateway.tar", [{"var/lib/dpkg/status": b"Package: a\nVersion: 1\n"}])
    site.document = {
        "version": 1,
        "chart": "helm/gpt-oss-cluster",
        "images": {
            "gateway": {"reference": f"example.com/gateway@{image}", "archive": "gateway.tar"},
            "engine": {"reference": f"example.com/engine@sha256:{'0' * 64}", "lock": "gateway.lock"},
        },
        "models": {MODEL: {"source": f"hub/{MODEL}"}},
        "vocabulary": "vocabulary",
        "builds": {
            "gateway": {
                "dockerfile": "gateway.Dockerfile",
                "lock": "gateway.lock",
                "wheels": "wheels",
                "project": "project-1.0-py3-none-any.whl",
                "debs": "debs",
                "vocabulary": True,
            }
        },
        "licences": ["LICENSE"],
    }
    return site


def of_server(site: Site, server: FileServer) -> None:
    """Let the model come from a mirror."""
    site.document["models"][MODEL]["source"] = server.url


def test_everything_that_a_site_needs_is_in(site: Site) -> None:
    """And nothing else: no copies of the model in other forms, no wheel that no lock asks for."""
    manifest = site.create()
    names = {name for name in manifest.files if not name.startswith("models/")}
    assert names == {
        "chart/gpt-oss-cluster/Chart.yaml",
        "chart/gpt-oss-cluster/templates/service.yaml",
        "images.txt",
        "images/gateway/gateway.tar",
        "licences/LICENSE",
        "sbom/engine.cdx.json",
        "sbom/gateway.cdx.json",
        f"vocabulary/{vocabulary.FILE_NAME}",
        "build/gateway/Dockerfile",
        "build/gateway/debs/wget.deb",
        "build/gateway/project/project-1.0-py3-none-any.whl",
        "build/gateway/requirements.lock",
        f"build/gateway/vocabulary/{vocabulary.FILE_NAME}",
        "build/gateway/wheels/tiny-1.0-py3-none-any.whl",
    }
    unwanted = {".gitattributes"}
    top = {path.name for path in site.repository.iterdir() if path.is_file()}
    assert manifest.of_model(MODEL).keys() == top - unwanted
    references = [image["reference"] for image in site.document["images"].values()]
    assert (site.bundle / "images.txt").read_text().splitlines() == sorted(references)
    engine = json.loads((site.bundle / "sbom" / "engine.cdx.json").read_text())
    assert [component["purl"] for component in engine["components"]] == ["pkg:pypi/tiny@1.0"]
    assert site.findings() == []


def test_what_is_made_can_be_loaded(site: Site, tmp_path: Path) -> None:
    """From the mirror's repository to the model directory, through create and load."""
    site.create()
    (done,) = load(DirectorySource(site.bundle), tmp_path / "models", KEY.public_key(), progress=Count())
    assert (done.path / SHARD).read_bytes() == (site.repository / SHARD).read_bytes()


def test_a_second_run_copies_nothing(site: Site) -> None:
    """Neither from directories nor from a mirror, and the seal is as good as before."""
    with serving(site.repository) as server:
        of_server(site, server)
        site.create()
        before = {path: path.stat().st_ino for path in (site.bundle / "models").rglob("*")}
        server.asked.clear()
        site.create()
        assert server.gets() == []
    assert before == {path: path.stat().st_ino for path in (site.bundle / "models").rglob("*")}
    assert site.findings() == []


def test_an_interrupted_run_goes_on(site: Site) -> None:
    """What was copied stays, and half a shard is gone on with; until then there is no seal to verify."""
    with serving(site.repository) as server:
        of_server(site, server)
        size = (site.repository / SHARD).stat().st_size
        before_shard = [10**9] * (len(list(site.repository.iterdir())) - 5)
        server.cuts = [*before_shard, 2_000_000] + [0] * 20
        with pytest.raises(UnreachableError, match=rf"ended after 2000000 of {size} bytes"):
            site.create()
        with pytest.raises(BundleError, match="no finished bundle; run `bundle create` to its end"):
            site.findings()
        server.cuts.clear()
        server.asked.clear()
        site.create()
        assert server.gets(SHARD) == ["bytes=2000000-"]
        assert server.gets("/config.json") == []
    assert site.findings() == []


def test_halves_of_two_versions_are_never_joined(site: Site) -> None:
    """If the mirror's file changed since, what had arrived of it is thrown away."""
    with serving(site.repository) as server:
        of_server(site, server)
        before_shard = [10**9] * (len(list(site.repository.iterdir())) - 5)
        server.cuts = [*before_shard, 2_000_000] + [0] * 20
        with pytest.raises(UnreachableError):
            site.create()
        server.cuts.clear()
        write_checkpoint(site.repository, seed=7)
        site.create()
    assert (site.bundle / "models" / MODEL / SHARD).read_bytes() == (site.repository / SHARD).read_bytes()
    assert not list(site.bundle.rglob("*.part"))


def test_a_changed_source_is_copied_again(site: Site) -> None:
    """A later run of the same recipe brings what is new and keeps the rest."""
    site.create()
    chart = site.base / "helm" / "gpt-oss-cluster" / "Chart.yaml"
    chart.write_text("name: gpt-oss-cluster\nversion: 2\n")
    site.create()
    assert "version: 2" in (site.bundle / "chart" / "gpt-oss-cluster" / "Chart.yaml").read_text()
    assert site.findings() == []


def test_a_mirror_without_versions_is_read_anew(site: Site) -> None:
    """Without an ETag or a time nothing tells that a file is the one that was copied."""
    with serving(site.repository) as server:
        of_server(site, server)
        server.tags = False
        site.create()
        server.asked.clear()
        site.create()
        assert server.gets(SHARD) == [None]
    assert site.findings() == []


def test_a_source_that_changed_is_read_from_its_beginning(tmp_path: Path) -> None:
    """Whatever was reached: as `If-Range` makes a web server do."""
    (tmp_path / "file").write_text("0123456789")
    source = DirectorySource(tmp_path)
    version = source.stat("file").version
    for asked, start, text in ((version, 4, b"456789"), ("older", 0, b"0123456789")):
        with source.open("file", 4, asked) as opened:
            assert (opened.start, b"".join(opened.chunks)) == (start, text)


@pytest.mark.parametrize("tags", [False, True], ids=["no ETag", "weak ETag"])
def test_half_a_file_without_a_version_is_read_anew(site: Site, tags: bool) -> None:
    """Nothing would tell whether what had arrived is of the same file."""
    with serving(site.repository) as server:
        of_server(site, server)
        server.tags, server.weak_tags = tags, True
        before_shard = [10**9] * (len(list(site.repository.iterdir())) - 5)
        server.cuts = [*before_shard, 2_000_000] + [0] * 20
        with pytest.raises(UnreachableError):
            site.create()
        server.cuts.clear()
        site.create()
        assert set(server.gets(SHARD)) == {None}
    assert (site.bundle / "models" / MODEL / SHARD).read_bytes() == (site.repository / SHARD).read_bytes()


@pytest.mark.parametrize("path", ["../x", "/x", "a//b", "a/./b", "a\\b", "a\nb", ""])
def test_a_manifest_cannot_name_a_file_outside(path: str) -> None:
    """Not even one with a good signature."""
    entry = {"sha256": "0" * 64, "size": 1}
    document = {"version": 1, "product": "1", "created": "x", "files": {path: entry}}
    with pytest.raises(BundleError, match="is no path inside a bundle"):
        parse(json.dumps(document).encode(), origin="test")


@pytest.mark.parametrize("name", ["USAGE_POLICY", "tokenizer.json", SHARD])
def test_a_mirror_that_lacks_a_file_is_told(site: Site, name: str) -> None:
    """The address of the file is in the message."""
    (site.repository / name).unlink()
    with serving(site.repository) as server:
        of_server(site, server)
        with pytest.raises(MissingError, match=rf"{server.url}/{name}: not there \(404\)"):
            site.create()


def test_sums_of_another_party_must_agree(site: Site) -> None:
    """A mirror whose shard is not the one that the sums name is refused; the right one is taken."""
    right = hashlib.sha256((site.repository / SHARD).read_bytes()).hexdigest()
    (site.base / "SHA256SUMS").write_text(f"{'0' * 64}  {SHARD}\n")
    site.document["models"][MODEL]["sums"] = "SHA256SUMS"
    with pytest.raises(BundleError, match=rf"{SHARD}: its SHA-256 is not 0{{64}}, as the sums have it"):
        site.create()
    (site.base / "SHA256SUMS").write_text(f"{right} *{SHARD}\n")
    site.create()


def test_an_index_cannot_lead_out_of_the_model(site: Site) -> None:
    """A mirror that names files elsewhere is refused before one is asked for."""
    index = site.repository / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": "../../etc/passwd.safetensors"}}))
    with pytest.raises(BundleError, match="is no name of a shard beside it"):
        site.create()


def test_a_model_in_one_file_needs_no_index(site: Site) -> None:
    """The tiny checkpoint is such a one."""
    (site.repository / "model.safetensors.index.json").unlink()
    shutil.move(site.repository / SHARD, site.repository / "model.safetensors")
    manifest = site.create()
    assert "model.safetensors" in manifest.of_model(MODEL)


def test_a_pin_without_a_wheel_is_named_with_the_command(site: Site) -> None:
    """Wheels of other hashes do not count."""
    with (site.base / "gateway.lock").open("a") as lock:
        lock.write(f"absent==2.0 \\\n    --hash=sha256:{'1' * 64}\n")
    with pytest.raises(BundleError, match=r"for absent==2\.0: run pip download --require-hashes"):
        site.create()


def test_another_image_than_the_one_named_is_refused(site: Site) -> None:
    """The message has the digest that the archive holds and the one that was wanted."""
    site.document["images"]["gateway"]["reference"] = f"example.com/gateway@sha256:{'1' * 64}"
    with pytest.raises(BundleError, match=r"gateway\.tar: holds sha256:\w{64}, not sha256:1{64}"):
        site.create()


def test_a_stray_file_stops_the_seal(site: Site) -> None:
    """What no recipe put there is not signed, and not removed either."""
    site.create()
    (site.bundle / "models" / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"notes\.txt: not of this recipe: remove it"):
        site.create()
    assert (site.bundle / "models" / "notes.txt").exists()


def test_a_folder_that_is_no_bundle_is_left_alone(site: Site) -> None:
    """Somebody's home is not filled."""
    site.bundle.mkdir()
    (site.bundle / "thesis.txt").write_text("mine")
    with pytest.raises(BundleError, match="not empty, and no bundle: name a new folder"):
        site.create()


def test_every_mistake_of_a_recipe_is_named(site: Site) -> None:
    """A reference by tag, an unknown word and a missing one: three lines with their places."""
    site.document["images"]["gateway"]["reference"] = "example.com/gateway:1.0"
    site.document["speed"] = "fast"
    del site.document["vocabulary"]
    with pytest.raises(BundleError) as caught:
        site.create()
    told = str(caught.value)
    assert "3 mistake(s)" in told
    assert "images.gateway.reference: Value error, 'example.com/gateway:1.0' does not name" in told
    assert "speed: Extra inputs are not permitted" in told
    assert "vocabulary: Field required" in told


def damage_byte(bundle: Path) -> str:
    """Change one byte of a shard, and neither its size nor its time."""
    path = bundle / "models" / MODEL / SHARD
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    return rf"models/{MODEL}/{SHARD}: has SHA-256 \w{{64}}, not \w{{64}}; copy it again"


def damage_size(bundle: Path) -> str:
    """Cut a file short."""
    (bundle / "images.txt").write_text("x")
    return r"images\.txt: has 1 bytes, not \d+; copy it again"


def damage_missing(bundle: Path) -> str:
    """Remove a file."""
    (bundle / "licences" / "LICENSE").unlink()
    return "licences/LICENSE: is missing; copy it again"


def damage_extra(bundle: Path) -> str:
    """Add a file."""
    (bundle / "build" / "gateway" / "wheels" / "evil-1.0-py3-none-any.whl").write_text("x")
    return r"build/gateway/wheels/evil-1\.0-py3-none-any\.whl: is not in the manifest; remove it"


def damage_link(bundle: Path) -> str:
    """Put a link to the same bytes in a file's place."""
    path = bundle / "licences" / "LICENSE"
    shutil.move(path, bundle.parent / "elsewhere")
    path.symlink_to(bundle.parent / "elsewhere")
    return "licences/LICENSE: is a link or no regular file; put the file itself there"


@pytest.mark.parametrize(
    "damage",
    [damage_byte, damage_size, damage_missing, damage_extra, damage_link],
    ids=lambda one: one.__name__,
)
def test_each_damage_is_named_with_its_mend(site: Site, damage: Callable[[Path], str]) -> None:
    """One finding for one damage."""
    site.create()
    told = damage(site.bundle)
    (finding,) = site.findings()
    assert re.search(told, finding), finding


def test_a_changed_manifest_or_signature_is_refused(site: Site) -> None:
    """Also if the manifest fits the files: nobody else can sign it."""
    site.create()
    signature = (site.bundle / SIGNATURE).read_bytes()
    (site.bundle / SIGNATURE).write_bytes(signature[:-1] + bytes([signature[-1] ^ 1]))
    with pytest.raises(SignatureError):
        site.findings()
    (site.bundle / SIGNATURE).write_bytes(signature)
    manifest = (site.bundle / MANIFEST).read_bytes()
    (site.bundle / MANIFEST).write_bytes(manifest.replace(b'"size":1', b'"size": 1', 1) + b"\n")
    with pytest.raises(SignatureError, match="its manifest was changed"):
        site.findings()


def test_a_directory_that_is_not_there_is_told(site: Site) -> None:
    """The recipe's model source is named."""
    site.document["models"][MODEL]["source"] = "hub/none"
    with pytest.raises(SourceError, match="hub/none: no such directory"):
        site.create()
