"""How clients come in, and what an install tells the one who did it."""

import re

import yaml

from tests.helm.chart_docs import CHART
from tests.helm.rendering import RELEASE, render
from tests.helm_tools import Tool
from tests.kube.cluster import Cluster


def test_an_ingress_with_a_certificate_of_its_own(helm: Tool) -> None:
    """cert-manager is asked for the host's certificate, and the Ingress shows that one."""
    rendered = render(helm, None, CHART / "ci" / "everything-values.yaml")
    certificate = rendered.named("Certificate", "-gateway")["spec"]
    ingress = rendered.named("Ingress", "-gateway")["spec"]
    assert certificate["dnsNames"] == ["ai.example.com"]
    assert certificate["issuerRef"] == {"kind": "ClusterIssuer", "name": "corporate"}
    assert ingress["tls"] == [{"hosts": ["ai.example.com"], "secretName": certificate["secretName"]}]


def test_only_the_api_is_shown(helm: Tool) -> None:
    """The admin port, with its metrics, is behind neither Ingress nor route."""
    for name in ("everything-values.yaml", "http-route-values.yaml"):
        rendered = render(helm, None, CHART / "ci" / name)
        for one in rendered.of("Ingress") + rendered.of("HTTPRoute"):
            assert "8081" not in str(one)
            assert "admin" not in str(one["spec"])
            assert "/v1" in str(one["spec"])


def test_a_real_site_needs_fifteen_lines(helm: Tool) -> None:
    """Registry, storage class, GPU label and host name: each example says no more, and renders."""
    examples = sorted((CHART / "examples").glob("*.yaml"))
    assert examples
    for path in examples:
        lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
        assert len(lines) <= 15, path
        assert render(helm, None, path).objects


def test_the_notes_lead_to_the_first_answer(helm: Tool, cluster: Cluster) -> None:
    """They name the commands as they must be typed for this release, and promise nothing of models."""
    connected = cluster.connected(helm)
    said = connected("install", RELEASE, str(CHART), "--namespace", "serving").stdout
    assert "Helm does not wait for the models" in said
    assert "gpt-oss-cluster status --wait" in said
    assert f"gpt-oss-cluster keys create my-team --namespace serving --release {RELEASE}" in said
    assert f"helm test {RELEASE} --namespace serving" in said
    assert f"http://{RELEASE}-gateway.serving:8080/v1" in said


def test_extra_objects_are_templates(helm: Tool) -> None:
    """They may use the release's name."""
    rendered = render(helm, None, CHART / "ci" / "everything-values.yaml")
    assert rendered.named("ConfigMap", "-extra")["data"] == {"a": "b"}


def test_values_files_hold_no_secret() -> None:
    """What stands in the repository is made up: example hosts alone."""
    for path in (*(CHART / "ci").glob("*.yaml"), *(CHART / "examples").glob("*.yaml")):
        for line in path.read_text().splitlines():
            if "https://" in line:
                assert "example.com" in line, line
        assert yaml.safe_load(path.read_text())


def test_the_page_on_installing_renders(helm: Tool) -> None:
    """Its values are accepted, and the first ones are those of the example."""
    page = (CHART.parents[1] / "docs" / "install.md").read_text()
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    assert blocks[0] == yaml.safe_load((CHART / "examples" / "h100-site.yaml").read_text())
    assert len(blocks) == 2
    for block in blocks:
        assert render(helm, block).objects
