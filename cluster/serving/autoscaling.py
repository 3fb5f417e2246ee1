"""`EffortScaling`: Serve's autoscaling policy that adapts `cluster.core.scaling`.

Serve's controller asks it some times a second, with what the replicas have reported. It keeps what it must
remember itself: Serve makes a new one when the pool's config changes, and then the present counts as wanted.
"""

import logging
from typing import Any

from ray.serve.config import AutoscalingContext

from cluster.core import scaling
from cluster.serving import report

logger = logging.getLogger("ray.serve")


class EffortScaling:
    """Decides how many replicas a pool has, by the expected tokens and the low-effort wait there."""

    def __init__(self, **policy: float) -> None:
        """Start without a past. ``policy`` are the fields of `scaling.Policy`, from the pool's settings."""
        self._policy = scaling.Policy(**policy)
        self._memory = scaling.Memory()

    def __call__(self, ctx: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """Return the replicas that there should be, and no state for Serve to keep."""
        assert ctx.current_time is not None, "Serve always tells the time"
        decision = scaling.decide(
            report.read_scaling(ctx.raw_metrics or {}),
            replicas=ctx.target_num_replicas,
            least=ctx.capacity_adjusted_min_replicas,
            most=ctx.capacity_adjusted_max_replicas,
            now_s=ctx.current_time,
            memory=self._memory,
            policy=self._policy,
        )
        self._memory = decision.memory
        if decision.replicas != ctx.target_num_replicas:
            logger.info(
                "%s: from %d to %d replicas: %s",
                ctx.app_name,
                ctx.target_num_replicas,
                decision.replicas,
                decision.reason,
            )
        return decision.replicas, {}
