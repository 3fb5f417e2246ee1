"""The faults themselves, once: the stack starts, breaks, is whole again, and the ledgers agree."""

import itertools
from pathlib import Path

import pytest

from tests.faults import stack, trial
from tests.faults.kinds import KINDS
from tests.redis_servers import require_redis


@pytest.mark.integration
async def test_a_lost_replica_and_a_lost_redis_are_survived(tmp_path: Path) -> None:
    """No client hangs or is misled, nobody is charged for what was not sent, nothing stays reserved."""
    require_redis()
    numbers = itertools.count(1)
    async with stack.running(tmp_path / "state") as up:
        for name in ("replica-killed", "redis-killed"):
            (kind,) = [kind for kind in KINDS if kind.name == name]
            made = await trial.run(up, kind, seed=1, numbers=numbers)
            assert made.findings == (), name
            assert made.requests >= kind.workers
            assert made.lost == 0
