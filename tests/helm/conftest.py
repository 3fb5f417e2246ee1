"""What tests of the chart share."""

import copy
from pathlib import Path

import pytest

from tests.conftest import fetched
from tests.helm.rendering import Object, Rendered, render


@pytest.fixture(scope="session")
def default(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """Return the chart without values, rendered once by Helm 4; not to be changed."""
    return render(fetched("helm-4", Path(tmp_path_factory.mktemp("helm"))))


@pytest.fixture
def default_service(default: Rendered) -> Object:
    """Return a RayService of one's own."""
    return copy.deepcopy(default.named("RayService"))
