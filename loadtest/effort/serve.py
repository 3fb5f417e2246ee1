"""The benchmark's serving process: like the demo's, but one of its two pools goes without what is measured.

``python -m loadtest.effort.serve CONFIG POOL`` serves every pool of a settings document, ``POOL`` with Ray
Serve's own round-robin router.
"""

import sys
from pathlib import Path

from cluster import settings
from cluster.demo import serve
from cluster.serving import deploy, local

ROUTER = "ray.serve.experimental.round_robin_router.RoundRobinRouter"


def main(config: Path, pool: str) -> int:
    """Start every pool, report, and stay until told to end."""
    document = settings.load(config)
    declared = deploy.deploy_config(document, host=local.HOST)
    for application in declared["applications"]:
        if application["name"] == pool:
            application["deployments"][0]["request_router_config"] = {"request_router_class": ROUTER}
    return serve.stay(local.start(document, declared))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
