"""Models get from a bundle into the model directory: whole, checked, resumable, and only once."""

import fcntl
import json
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cluster.serving.checkpoint import (
    LOADING,
    MARKER,
    CheckpointError,
    read_marker,
    require_checkpoint,
    require_marked,
)
from deploy.bundle.errors import BundleError, SourceError, UnreachableError
from deploy.bundle.load import Loaded, load
from deploy.bundle.manifest import MANIFEST, parse
from deploy.bundle.signing import SignatureError
from deploy.bundle.sources import DirectorySource, HttpSource, Source
from tests import certificates
from tests.deploy.bundles import KEY, SHARD, Count, sealed
from tests.deploy.file_server import serving

MODEL = "gpt-oss-20b"
BEFORE = [10**9] * 4
"""No cut in the bodies before the first shard: manifest, signature, and two small files."""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a bundle of one model."""
    return sealed(tmp_path / "bundle", MODEL)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Return where the model directory will be."""
    return tmp_path / "models"


def run(source: Source, models: Path, naps: list[float] | None = None, *names: str) -> list[Loaded]:
    """Load without waiting."""
    naps = [] if naps is None else naps
    return load(source, models, KEY.public_key(), wanted=names, progress=Count(), sleep=naps.append)


def same(bundle: Path, models: Path) -> bool:
    """Return whether the model directory holds the bundle's model, byte for byte."""
    wanted = {path.name: path.read_bytes() for path in (bundle / "models" / MODEL).iterdir()}
    found = {path.name: path.read_bytes() for path in (models / MODEL).iterdir() if path.name != MARKER}
    return wanted == found


def test_a_model_is_put_in_place_with_a_marker(bundle: Path, models: Path) -> None:
    """Every file is there, a replica accepts it, and the marker tells from which manifest it came."""
    (done,) = run(DirectorySource(bundle), models)
    assert (done.what, done.path) == ("loaded", models / MODEL)
    assert same(bundle, models)
    require_checkpoint(models / MODEL)
    require_marked(models / MODEL)
    marker = read_marker(models / MODEL)
    assert marker is not None
    manifest = parse((bundle / MANIFEST).read_bytes(), origin="test")
    assert marker["files"] == {name: entry.model_dump() for name, entry in manifest.of_model(MODEL).items()}
    assert oct((models / MODEL / MARKER).stat().st_mode)[-3:] == "644"


def test_a_second_run_reads_no_weights(bundle: Path, models: Path) -> None:
    """Only the manifest and its signature are asked for again."""
    with serving(bundle) as server:
        run(HttpSource(server.url), models)
        server.asked.clear()
        (done,) = run(HttpSource(server.url), models)
    assert done.what == "already there"
    assert [path for _, path, _ in server.asked] == ["/manifest.json", "/manifest.json.sig"]


def test_a_cut_connection_goes_on_where_it_was(bundle: Path, models: Path) -> None:
    """Three cuts cost three requests from the byte reached, and no byte twice."""
    with serving(bundle) as server:
        server.cuts = [*BEFORE, 1_000_000, 500_000, 1]
        naps: list[float] = []
        run(HttpSource(server.url), models, naps)
    assert same(bundle, models)
    assert server.gets(SHARD) == [None, "bytes=1000000-", "bytes=1500000-", "bytes=1500001-"]
    assert naps == [2, 2, 2]


def test_an_interrupted_load_goes_on(bundle: Path, models: Path) -> None:
    """What a process that died had fetched is not fetched again, whole files and half ones."""
    with serving(bundle) as server:
        server.cuts = [*BEFORE, 2_000_000] + [0] * 20
        with pytest.raises(UnreachableError, match=r"ended after 2000000 of \d+ bytes"):
            run(HttpSource(server.url), models)
        assert not (models / MODEL).exists()
        server.cuts.clear()
        server.asked.clear()
        run(HttpSource(server.url), models)
    assert server.gets(SHARD) == ["bytes=2000000-"]
    assert server.gets("/config.json") == []
    assert same(bundle, models)


def test_what_another_bundle_left_half_way_is_not_taken(bundle: Path, models: Path) -> None:
    """Neither a file of the same size with other bytes, nor one that the new bundle does not have."""
    staging = models / f"{LOADING}{MODEL}"
    staging.mkdir(parents=True)
    right = (bundle / "models" / MODEL / "config.json").read_text()
    (staging / "config.json").write_text(right.replace("0", "9"))
    (staging / "older.json").write_text("{}")
    run(DirectorySource(bundle), models)
    assert same(bundle, models)


def test_a_server_without_ranges_is_read_anew(bundle: Path, models: Path) -> None:
    """A cut costs the whole file again, and the file is right."""
    with serving(bundle) as server:
        server.ranges = False
        server.cuts = [*BEFORE, 2_000_000]
        run(HttpSource(server.url), models)
    assert len(server.gets(SHARD)) == 2
    assert same(bundle, models)


def test_a_busy_server_is_asked_again(bundle: Path, models: Path) -> None:
    """503 is no answer; longer and longer waits stand between the attempts."""
    naps: list[float] = []
    with serving(bundle) as server:
        server.statuses = [0, 0, 503, 429, 500]
        run(HttpSource(server.url), models, naps)
    assert naps == [2, 4, 8]
    assert same(bundle, models)


def test_a_server_that_is_away_is_named(bundle: Path, models: Path) -> None:
    """After six attempts within about a minute; the message holds the address."""
    naps: list[float] = []
    with serving(bundle) as server:
        source = HttpSource(server.url)
    with pytest.raises(UnreachableError, match=rf"{server.url}/manifest\.json"):
        run(source, models, naps)
    assert sum(naps) == 62


def test_a_wrong_signer_loads_nothing(bundle: Path, models: Path) -> None:
    """A bundle that somebody else signed is refused before a file is read."""
    sealed(bundle, MODEL, key=Ed25519PrivateKey.generate())
    with pytest.raises(SignatureError, match="somebody else made the bundle"):
        run(DirectorySource(bundle), models)
    assert not models.exists()


def test_a_changed_byte_is_found(bundle: Path, models: Path) -> None:
    """The file is named with both hashes, and nothing is put in place."""
    shard = bundle / "models" / MODEL / SHARD
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    with pytest.raises(SourceError, match=rf"{SHARD}: has SHA-256 [0-9a-f]{{64}}, not [0-9a-f]{{64}}"):
        run(DirectorySource(bundle), models)
    assert not (models / MODEL).exists()
    assert not list(models.rglob("*.part"))


def test_a_damaged_half_is_fetched_again(bundle: Path, models: Path) -> None:
    """If the whole has the wrong hash and began with old bytes, these are taken to be at fault, once."""
    with serving(bundle) as server:
        server.cuts = [*BEFORE, 2_000_000] + [0] * 20
        with pytest.raises(UnreachableError):
            run(HttpSource(server.url), models)
        (part,) = models.rglob("*.part")
        part.write_bytes(bytes(2_000_000))
        server.cuts.clear()
        run(HttpSource(server.url), models)
    assert same(bundle, models)


def test_the_old_model_serves_until_the_new_one_is_complete(bundle: Path, models: Path) -> None:
    """A newer bundle replaces the folder at once; a replica that has a file open keeps it."""
    run(DirectorySource(bundle), models)
    old = (models / MODEL / "config.json").open()
    (bundle / "models" / MODEL / "config.json").write_text('{"seed": 99}')
    sealed(bundle, MODEL)
    (done,) = run(DirectorySource(bundle), models)
    assert done.what == "loaded"
    assert (models / MODEL / "config.json").read_text() == '{"seed": 99}'
    with old:
        assert old.read() == '{"seed": 0}'
    assert {path.name for path in models.iterdir()} == {MODEL, f".lock-{MODEL}"}


def test_files_copied_by_hand_are_checked_and_marked(bundle: Path, models: Path) -> None:
    """A model that somebody copied there is not fetched again, once its hashes are right."""
    shutil.copytree(bundle / "models" / MODEL, models / MODEL)
    (done,) = run(DirectorySource(bundle), models)
    assert done.what == "adopted"
    require_marked(models / MODEL)


def test_a_folder_of_somebody_else_is_left_alone(bundle: Path, models: Path) -> None:
    """Where the files differ, the command refuses and removes nothing."""
    shutil.copytree(bundle / "models" / MODEL, models / MODEL)
    (models / MODEL / "config.json").write_text("{}")
    with pytest.raises(BundleError, match=r"config\.json: not the bundle's file, .* move .* away"):
        run(DirectorySource(bundle), models)
    assert (models / MODEL / "config.json").read_text() == "{}"


def test_two_loads_do_not_meet(bundle: Path, models: Path) -> None:
    """The second says that another is at work."""
    models.mkdir()
    with (models / f".lock-{MODEL}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BundleError, match="another process is loading it"):
            run(DirectorySource(bundle), models)
    run(DirectorySource(bundle), models)


def test_too_small_a_volume_is_told_before_a_byte_is_copied(
    bundle: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says how much is free and how much is needed."""
    usage = shutil.disk_usage(bundle)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1024))
    with pytest.raises(BundleError, match=r"0\.0 GiB free, 0\.0 GiB needed: make room"):
        run(DirectorySource(bundle), models)
    assert not (models / f".loading-{MODEL}").exists()


def test_an_unknown_model_is_told_with_those_that_there_are(bundle: Path, models: Path) -> None:
    """The message lists the bundle's models."""
    with pytest.raises(BundleError, match="no model gpt-oss-7b; it has gpt-oss-20b"):
        run(DirectorySource(bundle), models, None, "gpt-oss-7b")


def test_only_what_is_wanted_is_loaded(tmp_path: Path, models: Path) -> None:
    """One model of two, by name."""
    bundle = sealed(tmp_path / "two", MODEL, "gpt-oss-120b")
    run(DirectorySource(bundle), models, None, MODEL)
    assert not (models / "gpt-oss-120b").exists()


def test_an_outdated_model_is_refused_though_it_is_signed(bundle: Path, models: Path) -> None:
    """What a replica would refuse at its start is refused here already."""
    (bundle / "models" / MODEL / "generation_config.json").write_text('{"eos_token_id": 200002}')
    sealed(bundle, MODEL)
    with pytest.raises(BundleError, match="outdated mirror"):
        run(DirectorySource(bundle), models)
    assert not (models / MODEL).exists()


def test_a_marked_model_that_lost_a_file_is_refused_and_mended(bundle: Path, models: Path) -> None:
    """A replica names the file at its start; the next load brings it back."""
    run(DirectorySource(bundle), models)
    (models / MODEL / "tokenizer_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json: missing; run .*bundle load.* again"):
        require_checkpoint(models / MODEL)
    (done,) = run(DirectorySource(bundle), models)
    assert done.what == "loaded"
    require_checkpoint(models / MODEL)


def test_a_damaged_marker_is_no_marker(bundle: Path, models: Path) -> None:
    """Half a marker does not count as checked."""
    run(DirectorySource(bundle), models)
    marker = models / MODEL / MARKER
    marker.write_text(marker.read_text()[:40])
    with pytest.raises(CheckpointError, match="missing or damaged"):
        require_marked(models / MODEL)
    (done,) = run(DirectorySource(bundle), models)
    assert done.what == "loaded"


def test_a_token_goes_to_its_server_alone(bundle: Path, models: Path) -> None:
    """A server that redirects gets the token; the one that it redirects to does not."""
    with serving(bundle) as store, serving(bundle) as front:
        front.token, front.redirect_to = "secret", store.url
        run(HttpSource(front.url, headers={"Authorization": "Bearer secret"}), models)
        with pytest.raises(SourceError, match=r"access refused \(401\); give credentials with --token-file"):
            run(HttpSource(front.url), models / "other")
    assert set(store.authorizations) == {None}
    assert same(bundle, models)


def test_a_private_authority_has_to_be_named(bundle: Path, models: Path, tmp_path: Path) -> None:
    """A certificate that nobody vouches for is a finding at once, with the option that mends it."""
    made = certificates.make(tmp_path)
    with serving(bundle, made.server()) as server:
        naps: list[float] = []
        with pytest.raises(SourceError, match="name the right authority with --ca-file"):
            run(HttpSource(server.url), models, naps)
        assert naps == []
        run(HttpSource(server.url, ca_file=made.ca), models)
    assert same(bundle, models)


def test_json_of_the_marker_can_be_read_by_a_script(bundle: Path, models: Path) -> None:
    """The marker is plain JSON with the signer's fingerprint."""
    run(DirectorySource(bundle), models)
    marker = json.loads((models / MODEL / MARKER).read_text())
    assert marker["model"] == MODEL
    assert len(marker["signed_by"]) == len(marker["manifest_sha256"]) == 64
