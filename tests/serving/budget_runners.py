"""What vLLM's two model runners force when a reasoning budget is spent, as functions of an answer's tokens.

Of V1, which CPUs run, the sampler's own state is asked. Of V2, which GPUs run, the source of the two kernels
is run by Python, one program at a time: they are not compiled here, and this is not a run on a GPU.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
import torch
from vllm.v1.sample.logits_processor.interface import BatchUpdate
from vllm.v1.sample.thinking_budget_state import ThinkingBudgetStateHolder
from vllm.v1.worker.gpu.sample import thinking_budget as source

from cluster.serving.harmony_tokens import ANALYSIS, CHANNEL, END, MESSAGE, START

Tokens = list[int]
Forced = Callable[[Tokens], int | None]
"""Returns the token that is forced after those of the answer so far; None: the model chooses."""
Runner = Callable[..., Forced]
"""Begins an answer with a budget; it may be preempted after so many tokens, and resumed."""
NEVER = -1

OPEN = [CHANNEL, ANALYSIS, MESSAGE]
PROMPT = [*OPEN, 1, 2, 3, END, START, 173781]
"""Ends as Harmony's prompts do; an earlier turn has thought, too."""
VOCABULARY = 201_088


def v1(budget: int, preempted_at: int = NEVER) -> Forced:
    """Begin an answer on V1, beside one that has no budget."""
    markers = SimpleNamespace(reasoning_start_token_ids=OPEN, reasoning_end_token_ids=[END])
    device = torch.device("cpu")
    holder = ThinkingBudgetStateHolder(markers, 2, 0, device, is_pin_memory=False)  # type: ignore[arg-type]
    ours, other = (SimpleNamespace(thinking_token_budget=given) for given in (budget, None))
    added: list[Any] = [(0, other, PROMPT, []), (1, ours, PROMPT, [])]
    holder.sync_batch(BatchUpdate(batch_size=2, removed=[], added=added, moved=[]))
    logits = torch.zeros(2, VOCABULARY)

    def forced(output: Tokens) -> int | None:
        if len(output) == preempted_at:
            again: list[Any] = [(1, ours, PROMPT, output)]
            holder.sync_batch(BatchUpdate(batch_size=2, removed=[1], added=again, moved=[]))
        holder.update_state([[], output], None)
        holder.apply_to_logits(logits, predict_bonus_token=False, spec_token_ids=None)
        return _raised(logits)

    return forced


def v2(monkeypatch: pytest.MonkeyPatch) -> Runner:
    """Return how V2 begins an answer, beside one that has no budget."""
    language = _Language()
    monkeypatch.setattr(source, "tl", language)
    for name in ("_update_committed_marker_cache_kernel", "_thinking_budget_kernel", "_load_effective_token"):
        plain = getattr(source, name)
        plain = getattr(plain, "fn", plain)  # Triton, where there is one, wraps it
        monkeypatch.setattr(source, name, _Kernel(language, plain) if name.endswith("kernel") else plain)

    def begin(budget: int, preempted_at: int = NEVER) -> Forced:
        tokens, logits = torch.zeros(2, 1000, dtype=torch.int32), torch.zeros(2, VOCABULARY)
        caches = [_numbers(-1, -1), _numbers(-1, -1), _numbers(0, 0)]

        def forced(output: Tokens) -> int | None:
            known = [*PROMPT, *output]
            if len(output) == preempted_at:
                for cache, empty in zip(caches, (-1, -1, 0), strict=True):
                    cache[1] = empty
            tokens[1, : len(known)] = _numbers(*known)
            lengths, last = _numbers(0, len(known)), _numbers(0, known[-1])
            requests, budgets = _numbers(0, 1), _numbers(-1, budget)
            first = _numbers(0, 0)
            places: Any = (logits, requests, requests, budgets, tokens, lengths, last, first)
            source.apply_thinking_budget(*places, *caches, _numbers(*OPEN), _numbers(END), _numbers(END))  # type: ignore[call-arg]
            return _raised(logits)

        return forced

    return begin


def _numbers(*values: int) -> Any:
    return torch.tensor(values, dtype=torch.int32)


def _raised(logits: Any) -> int | None:
    """Return the one token that was raised for the second of two requests, if any, and lower it again."""
    found = numpy.flatnonzero(logits.numpy()).tolist()
    logits.view(-1)[found] = 0
    assert len(found) <= 1
    assert not found or found[0] >= VOCABULARY, "a request without a budget is left alone"
    return found[0] - VOCABULARY if found else None


class _Pointer:
    """A pointer into a tensor's memory, as the kernels add to it and load from it."""

    def __init__(self, memory: Any, at: Any = 0) -> None:
        self.memory, self.at = memory, at

    def __add__(self, offset: Any) -> "_Pointer":
        return _Pointer(self.memory, self.at + offset)


class _Index(int):
    """The number of a program in a launch."""

    def to(self, _kind: object) -> int:
        """Return it as it is: Python's integers have any width."""
        return int(self)


class _Language:
    """What the two kernels use of ``triton.language``; accesses are checked against their tensor's bounds."""

    int64 = None
    arange, where, max = staticmethod(numpy.arange), staticmethod(numpy.where), staticmethod(numpy.max)
    range = static_range = range

    def __init__(self) -> None:
        self.program = 0

    def program_id(self, _axis: int) -> _Index:
        """Return which program of the launch this is."""
        return _Index(self.program)

    @staticmethod
    def load(pointer: _Pointer, mask: Any = None, other: int = 0) -> Any:
        """Read memory, ``other`` where the mask is off."""
        at = numpy.asarray(pointer.at)
        on = numpy.ones(at.shape, dtype=bool) if mask is None else numpy.asarray(mask)
        assert ((at >= 0) & (at < pointer.memory.size))[on].all(), "out of bounds"
        found = numpy.where(on, pointer.memory[numpy.where(on, at, 0)], other)
        return found if at.shape else int(found)

    @staticmethod
    def store(pointer: _Pointer, value: Any) -> None:
        """Write memory."""
        assert 0 <= pointer.at < pointer.memory.size, "out of bounds"
        pointer.memory[pointer.at] = value


class _Kernel:
    """A kernel that can be launched: ``kernel[grid](…)``."""

    def __init__(self, language: _Language, kernel: Callable[..., None]) -> None:
        self._language, self._kernel = language, kernel

    def __getitem__(self, grid: tuple[int]) -> Callable[..., None]:
        def launch(*given: Any, **constants: int) -> None:
            values = [
                _Pointer(one.view(-1).numpy()) if isinstance(one, torch.Tensor) else one for one in given
            ]
            for self._language.program in range(grid[0]):
                self._kernel(*values, **constants)

        return launch
