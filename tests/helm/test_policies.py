"""What a policy linter has to say of the chart: each finding that stands has its reason here."""

import re
from pathlib import Path

import pytest
import yaml

from tests.helm import checkov
from tests.helm.rendering import NAMESPACE, render, value_files
from tests.helm_tools import Tool

RAY = r"Pod\.ai\.(head|h100|a100|l4|sim)"
ACCEPTED = {
    "CKV_K8S_11": (".*", "a limit on CPU only makes it slower: requests share what there is"),
    "CKV_K8S_15": (".*", "images have fixed tags or digests, and a registry that is away must stop no pod"),
    "CKV_K8S_43": (".*", "digests are the site's, of its own registry; its values name them"),
    "CKV_K8S_38": (
        r"Deployment\.ai\..*-gateway|Pod\.ai\.(head|gpt-oss-cluster-test)",
        "they speak to the API: gateways watch keys, the autoscaler adds workers, the test makes a key",
    ),
    "CKV_K8S_8": (rf"{RAY}|Pod\.ai\..*-test", "the operator adds Ray's probes, and a test ends by itself"),
    "CKV_K8S_9": (rf"{RAY}|Pod\.ai\..*-test", "the same"),
}
"""Checks that may fail, by which resources, and why."""


@pytest.fixture(scope="session")
def linter() -> Path:
    """Return checkov; skip where it was not installed."""
    path = checkov.program()
    if path is None:
        pytest.skip(f"checkov is missing: {checkov.FETCH}")
    return path


def test_every_finding_has_its_reason(helm: Tool, linter: Path, tmp_path: Path) -> None:
    """In all renderings, the pods inside the RayService too; and no reason outlives its finding."""
    for path in (None, *value_files()):
        folder = tmp_path / (path.stem if path else "defaults")
        folder.mkdir()
        rendered = render(helm, None, *([path] if path else []))
        objects = [one for one in rendered if one["kind"] not in {"RayService"}]
        for name, pod in rendered.pods().items():
            if name.startswith("RayService"):
                about = {**pod["metadata"], "name": name.rpartition("/")[2], "namespace": NAMESPACE}
                objects.append({"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": pod["spec"]})
        (folder / "objects.yaml").write_text(yaml.safe_dump_all(objects))
    found = set(checkov.findings(linter, tmp_path))
    assert [finding for finding in sorted(found) if not _accepted(finding)] == []
    assert ACCEPTED.keys() == {finding.check for finding in found}


def _accepted(finding: checkov.Finding) -> bool:
    resources, _ = ACCEPTED.get(finding.check, ("", ""))
    return re.fullmatch(resources, finding.resource) is not None


def test_a_careless_pod_is_found(linter: Path, tmp_path: Path) -> None:
    """The linter looks at what it is given: a pod that runs as root is no good."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "head", "namespace": NAMESPACE}}
    container = {"name": "a", "image": "a:1", "securityContext": {"privileged": True}}
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump({**pod, "spec": {"containers": [container]}}))
    assert "CKV_K8S_16" in {finding.check for finding in checkov.findings(linter, tmp_path)}
