"""The images: every RUN line executed in a chroot without a network, and what comes out of it."""

import hashlib
import json
import shutil
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest
import yaml

from cluster import vocabulary
from cluster.demo import document
from cluster.demo.document import State
from cluster.demo.machine import free_ports
from deploy.bundle import signing
from tests.conftest import ROOT
from tests.deploy import chroot
from tests.deploy.bundles import sealed
from tests.deploy.chroot import Built, CannotError, build, instructions

IMAGES = ROOT / "deploy" / "images"
VOCABULARY = ROOT / ".cache" / "vocabulary" / vocabulary.FILE_NAME


@pytest.mark.parametrize("name", ["gateway", "engine"])
def test_a_dockerfile_keeps_the_rules(name: str) -> None:
    """A base by argument alone, nothing fetched, no root at the end, and OCI's labels."""
    text = (IMAGES / f"{name}.Dockerfile").read_text()
    found = instructions(text)
    assert [rest for word, rest in found if word == "FROM"] == ["${PYTHON_IMAGE}"]
    assert ("ARG", "PYTHON_IMAGE") in found
    assert [rest for word, rest in found if word == "USER"] == ["10001:10001"]
    runs = " ".join(rest for word, rest in found if word == "RUN")
    assert not {"apt-get", "curl", "git", "http:", "https:"} & set(runs.split())
    assert all("--no-index" in rest for _, rest in found if "pip install" in rest)
    labels = " ".join(rest for word, rest in found if word == "LABEL")
    for label in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in labels


@pytest.fixture(scope="module")
def wheels() -> Path:
    """Return a folder with the gateway's wheels, fetched once by its lock."""
    folder = ROOT / ".cache" / "wheels" / "gateway"
    if not folder.exists():
        making = folder.with_name("gateway.new")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes"]
        lock = ["-r", str(ROOT / "requirements" / "gateway.lock"), "--dest", str(making)]
        got = subprocess.run([*command, *lock], capture_output=True, text=True, timeout=300, check=False)
        if got.returncode != 0:
            pytest.skip(f"the gateway's wheels cannot be fetched: {got.stderr[-200:]}")
        making.rename(folder)
    return folder


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Path:
    """Return a build context with what both images need, without a Dockerfile."""
    folder = tmp_path_factory.mktemp("context")
    shutil.copytree(wheels, folder / "wheels")
    shutil.copy(ROOT / "requirements" / "gateway.lock", folder / "requirements.lock")
    source = folder / "source"
    source.mkdir()
    for name in ("cluster", "deploy", "loadtest"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "--wheel-dir", str(folder / "project"), str(source)],
        check=True,
        capture_output=True,
        timeout=120,
    )
    shutil.rmtree(source)
    return folder


def built(context: Path, name: str, root: Path) -> Built:
    """Build an image, or skip where no chroot can be made."""
    shutil.copy(IMAGES / f"{name}.Dockerfile", context / "Dockerfile")
    try:
        return build(context, root)
    except CannotError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def gateway(context: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Return the gateway image as a folder."""
    return built(context, "gateway", tmp_path_factory.mktemp("gateway") / "root")


@pytest.mark.integration
def test_the_gateway_image_is_small_and_has_no_ray(gateway: Built) -> None:
    """Every RUN line was executed; neither Ray nor pip nor a compiler is in it."""
    assert len(gateway.executed) == 5
    packages = gateway.root / "opt" / "gpt-oss-cluster" / "lib" / "python3.11" / "site-packages"
    names = {path.name.partition("-")[0].lower() for path in packages.glob("*.dist-info")}
    assert {"starlette", "uvicorn", "gpt_oss_cluster", "cryptography"} <= names
    assert not {"ray", "vllm", "torch", "pip"} & names
    size = sum(path.stat().st_size for path in packages.rglob("*") if path.is_file())
    assert size < 250 * 2**20
    assert gateway.run("gcc", "--version").returncode != 0
    assert gateway.labels["org.opencontainers.image.licenses"] == "Apache-2.0"


@pytest.mark.integration
def test_the_gateway_image_serves(gateway: Built, tmp_path: Path) -> None:
    """Its command runs as user 10001, gets ready, and knows the models of its settings."""
    state, ports = State(gateway.root / "srv"), free_ports()
    document.prepare(state)
    settings = document.document(State(Path("/srv")), "sim", ports, Path("/srv"), Path("/srv"))
    state.config.write_text(yaml.safe_dump(settings))
    key = document.client_keys(state)["demo"]
    subprocess.run(["chown", "--recursive", "10001:10001", str(state.folder)], check=True)
    assert gateway.entrypoint == '["gpt-oss-cluster"]["gateway"]'
    command = gateway.command("gpt-oss-cluster", "gateway", "--config", "/srv/config.yaml")
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stderr=log, stdout=log) as process:
        try:
            models = _get(f"http://127.0.0.1:{ports.gateway}/v1/models", key, process)
        finally:
            process.terminate()
    assert [model["id"] for model in json.loads(models)["data"]][:2] == ["gpt-oss-120b", "gpt-oss-20b"]


@pytest.mark.integration
def test_the_gateway_image_loads_models(gateway: Built) -> None:
    """As the prefetch Job and the start check run it: nothing but the locked packages is needed."""
    private, _ = signing.make_keys(gateway.root / "keys")
    sealed(gateway.root / "bundle", "gpt-oss-20b", key=signing.read_private(private))
    models = gateway.root / "models"
    models.mkdir(mode=0o777)
    models.chmod(0o777)
    public = f"/keys/{signing.PUBLIC}"
    loaded = gateway.run(
        "gpt-oss-cluster", "bundle", "load", "/bundle", "--models", "/models", "--public-key", public
    )
    assert loaded.returncode == 0, loaded.stderr
    assert "gpt-oss-20b: loaded" in loaded.stdout
    assert gateway.run("gpt-oss-cluster", "bundle", "ready", "/models/gpt-oss-20b").returncode == 0


def _get(url: str, key: str, process: "subprocess.Popen[bytes]") -> bytes:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                body: bytes = answer.read()
                return body
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def stand_in(folder: Path, name: str, version: str, script: str = "") -> str:
    """Write a wheel in the place of a large one; return its line of a lock."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": "def main():\n    print('stand-in')\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{script} = {name}:main\n" if script else "",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for inside, text in files.items():
            wheel.writestr(inside, text)
    return f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@pytest.mark.integration
def test_the_engine_image_has_what_kuberay_needs(context: Path, tmp_path: Path) -> None:
    """Every RUN line, with the real Debian packages and vocabulary; Ray and vLLM are stand-ins."""
    if not VOCABULARY.is_file():
        pytest.skip("needs the vocabulary: make setup")
    engine = tmp_path / "context"
    shutil.copytree(context, engine)
    try:
        shutil.copytree(chroot.debs(), engine / "debs")
    except CannotError as error:
        pytest.skip(str(error))
    (engine / "vocabulary").mkdir()
    shutil.copy(VOCABULARY, engine / "vocabulary")
    with (engine / "requirements.lock").open("a") as lock:
        lock.write(stand_in(engine / "wheels", "ray", "2.60.0", "ray"))
        lock.write(stand_in(engine / "wheels", "vllm", "0.29.0"))
    image = built(engine, "engine", tmp_path / "root")
    assert len(image.executed) == 6
    assert image.run("bash", "-c", "command -v bash ray wget gcc").returncode == 0
    assert image.run("gpt-oss-cluster", "bundle", "ready", "/models/none").returncode == 1
    assert image.environment["RAY_USAGE_STATS_ENABLED"] == "0"
    assert image.run("touch", "/cache/x").returncode == 0
    assert image.run("touch", "/opt/gpt-oss/x").returncode != 0
