"""Deadlines as priorities in vLLM's own scheduler, on token ids and without a model.

The scheduler has the flags of a pool. Each step of the engine takes 50 ms here. Importing vLLM takes 10 s.
"""

import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.serving import profiles
from cluster.settings import PoolSettings

pytestmark = pytest.mark.e2e

CHECKPOINT = Path(__file__).parents[2] / ".cache" / "tiny-gptoss"
STEP_MS = 50
SLOTS = 4
SHORT, LONG = 20, 200
"""Tokens of answers: a second, and ten."""


class Engine:
    """A scheduler whose every token is the same; ``blocks`` of 128 tokens are its KV cache."""

    def __init__(self, config: Any, *, blocks: int) -> None:
        import torch  # noqa: PLC0415 - with vLLM
        from vllm.utils.hashing import sha256  # noqa: PLC0415 - the same
        from vllm.v1.core.kv_cache_utils import (  # noqa: PLC0415 - the same
            get_request_block_hasher,
            init_none_hash,
        )
        from vllm.v1.core.sched.scheduler import Scheduler  # noqa: PLC0415 - the same
        from vllm.v1.kv_cache_interface import (  # noqa: PLC0415 - the same
            FullAttentionSpec,
            KVCacheConfig,
            KVCacheGroupSpec,
        )
        from vllm.v1.structured_output import StructuredOutputManager  # noqa: PLC0415 - the same

        size = config.cache_config.block_size
        config.cache_config.num_gpu_blocks = blocks
        spec = FullAttentionSpec(block_size=size, num_kv_heads=1, head_size=1, dtype=torch.float32)
        init_none_hash(sha256)
        self._hasher = get_request_block_hasher(size, sha256)
        self.scheduler = Scheduler(
            vllm_config=config,
            kv_cache_config=KVCacheConfig(blocks, [], [KVCacheGroupSpec(["layer"], spec)]),
            structured_output_manager=StructuredOutputManager(config),
            block_size=size,
        )
        self.now_ms = 0
        self.started_ms: dict[str, int] = {}
        self.ended_ms: dict[str, int] = {}
        self.preempted: Counter[str] = Counter()

    def add(self, identity: str, priority: int, *, prompt: int = 10, output: int) -> None:
        """Let a request come now."""
        from vllm.sampling_params import SamplingParams  # noqa: PLC0415 - with vLLM
        from vllm.v1.request import Request  # noqa: PLC0415 - the same

        self.scheduler.add_request(
            Request(
                request_id=identity,
                prompt_token_ids=[hash(identity) % 1000] * prompt,
                sampling_params=SamplingParams(max_tokens=output, ignore_eos=True),
                pooling_params=None,
                priority=priority,
                arrival_time=self.now_ms / 1000,
                block_hasher=self._hasher,
            )
        )

    def step(self) -> None:
        """Run one step: each scheduled request that has computed all its tokens gets one more."""
        from vllm.v1.outputs import ModelRunnerOutput  # noqa: PLC0415 - with vLLM

        requests = self.scheduler.requests
        preempted = {name: request.num_preemptions for name, request in requests.items()}
        scheduled = self.scheduler.schedule()
        for name, request in requests.items():
            self.preempted[name] += request.num_preemptions - preempted[name]
        names = list(scheduled.num_scheduled_tokens)
        whole = [requests[name].num_computed_tokens >= requests[name].num_tokens for name in names]
        output = ModelRunnerOutput(
            req_ids=names,
            req_id_to_index={name: index for index, name in enumerate(names)},
            sampled_token_ids=[[7] if done else [] for done in whole],
            logprobs=None,
            prompt_logprobs_dict={},
            pooler_output=[],
        )
        self.now_ms += STEP_MS
        for name in names:
            self.started_ms.setdefault(name, self.now_ms)
        for answers in self.scheduler.update_from_output(scheduled, output).values():
            for one in answers.outputs:
                if one.finish_reason is not None:
                    self.ended_ms[one.request_id] = self.now_ms

    def run(self, until_ms: int, come: Callable[[int], None] = lambda now_ms: None) -> None:
        """Step until then; ``come`` is called before each step, and adds what comes."""
        while self.now_ms < until_ms:
            come(self.now_ms)
            self.step()


@pytest.fixture(scope="module")
def config() -> Iterator[Any]:
    """Make vLLM's configuration of a pool."""
    if not (CHECKPOINT / "config.json").exists():
        pytest.skip(f"{CHECKPOINT} is missing (`make setup` builds it)")
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as environment:
        environment.setenv("CUDA_VISIBLE_DEVICES", "")
        warnings.simplefilter("ignore")  # vLLM's own, at import
        pytest.importorskip("vllm")
        from vllm.engine.arg_utils import EngineArgs  # noqa: PLC0415 - takes seconds

        from cluster.serving import vllm_plugin  # noqa: F401, PLC0415 - registers the reasoning parser

        pool = PoolSettings(model="gpt-oss-20b", profile="cpu", max_num_seqs=SLOTS)
        flags = profiles.engine_flags(pool)
        known: dict[str, Any] = {name: value for name, value in flags.items() if hasattr(EngineArgs, name)}
        yield EngineArgs(model=str(CHECKPOINT), **known).create_engine_config()


@pytest.fixture
def engine(config: Any) -> Engine:
    """Return an engine with room for everything."""
    return Engine(config, blocks=200)


def overloaded(engine: Engine, priority: Callable[[int], int]) -> Callable[[int], None]:
    """Return what adds short answers at 1.4 times what the engine can serve, each due after a second."""
    rng, number = random.Random(4), iter(range(100_000))

    def come(now_ms: int) -> None:
        if rng.random() < 1.4 * SLOTS / SHORT:
            engine.add(f"low-{next(number)}", priority(now_ms + 1000), output=SHORT)

    return come


def busy(engine: Engine) -> None:
    """Give the engine an answer for each slot."""
    for index in range(SLOTS):
        engine.add(f"first-{index}", 0, output=SHORT)
    engine.step()


def test_the_earliest_deadline_starts_first(engine: Engine) -> None:
    """Epoch milliseconds are a priority, whatever came first."""
    now_ms, due = 1_700_000_000_000, [7000, 1000, 30_000, 5000, 65_000, 0]
    busy(engine)
    for ms in due:
        engine.add(str(ms), now_ms + ms, output=SHORT)
    engine.run(5000)
    begun = [engine.started_ms[str(ms)] for ms in sorted(due)]
    assert begun == [1050] * SLOTS + [2050] * 2


def test_nothing_waits_for_ever(engine: Engine) -> None:
    """However much of what is urgent comes, a late deadline is one day the earliest."""
    busy(engine)
    engine.add("flex", 15_000, output=LONG)
    engine.run(40_000, overloaded(engine, lambda due_ms: due_ms))
    assert len(engine.scheduler.waiting) > SLOTS
    assert 10_000 < engine.started_ms["flex"] < 25_000


def test_fixed_classes_would_let_it_wait(engine: Engine) -> None:
    """What deadlines are for: under the same load a fixed lower class is never served."""
    busy(engine)
    engine.add("flex", 1, output=LONG)
    engine.run(40_000, overloaded(engine, lambda due_ms: 0))
    assert "flex" not in engine.started_ms


def crowded(engine: Engine) -> Callable[[int], None]:
    """Return what keeps two requests waiting, each due after 5 s and of a size that memory is short for."""
    number = iter(range(100_000))

    def come(now_ms: int) -> None:
        if len(engine.scheduler.waiting) < 2:
            engine.add(f"medium-{next(number)}", now_ms + 5000, prompt=500, output=300)

    return come


def test_who_is_preempted_gets_through(config: Any) -> None:
    """When memory runs out the latest deadline gives way; it too is one day the earliest, and then stays.

    Alone it takes 75 s. What came more than 5 s before it was due may interrupt it, and nothing later.
    """
    engine = Engine(config, blocks=20)
    engine.add("high", 30_000, prompt=100, output=1500)
    engine.run(120_000, crowded(engine))
    assert 1 <= engine.preempted["high"] <= 4
    assert engine.ended_ms["high"] < 110_000
    assert max(engine.preempted.values()) <= 4


def test_a_fixed_class_would_be_interrupted_for_ever(config: Any) -> None:
    """The same with a class that is always last: it ends nowhere near."""
    engine = Engine(config, blocks=20)
    engine.add("high", 10**9, prompt=100, output=1500)
    engine.run(200_000, crowded(engine))
    assert engine.preempted["high"] > 10
    assert "high" not in engine.ended_ms
