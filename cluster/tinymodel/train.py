"""Train the tiny model: `python -m cluster.tinymodel.train --vocabulary DIR --out FILE`.

Only the blocks are trained, and the embedding and unembedding rows of the tokens that the model itself
writes; all other rows keep their seed (embedding.py). The loss samples the unembedding: the learned rows,
the batch's own tokens and some others, each of which stands for the share of the vocabulary that it was
drawn from.
"""

import argparse
import itertools
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cluster.tinymodel import embedding, shape, weights
from cluster.tinymodel.corpus import Sample, samples
from cluster.tinymodel.network import Blocks
from cluster.tinymodel.tokens import Tokens

SEED = 7
LEARNED_FROM = 3000
"""Samples whose learned completions decide which rows are trained."""
LEARNED_LEAST = 12
"""A token seen less often in them keeps its seed rows: the model copies it, it does not know it."""
FRAMING_SHARE = 0.12
"""A token in at least this share of the prompts is syntax."""
NEGATIVES = 3000
BATCH_TOKENS = 5000
REPORT_EVERY = 20
PEAK_RATE = 3e-3
SHARPNESS = 4.0
"""Factor on the logits: at temperature 1.0 the model samples as a trained one would at 0.25."""


class TinyModel(nn.Module):
    """The blocks, the seed rows (fixed), and the rows that are trained."""

    def __init__(self, seed_rows: Tensor, trained: list[int]) -> None:
        super().__init__()
        self.blocks = Blocks()
        self.seed_rows = seed_rows
        self.trained = torch.tensor(trained)
        self.slot = torch.full((len(seed_rows),), -1).index_copy(0, self.trained, torch.arange(len(trained)))
        self.inputs = nn.Parameter(seed_rows[self.trained] * embedding.INPUT_SCALE)
        self.outputs = nn.Parameter(seed_rows[self.trained] * embedding.OUTPUT_SCALE)

    def rows(self, ids: Tensor, *, output: bool) -> Tensor:
        """Return the rows of `ids` in the embedding or, with `output`, in the unembedding."""
        slots = self.slot[ids]
        scale, own = (
            (embedding.OUTPUT_SCALE, self.outputs) if output else (embedding.INPUT_SCALE, self.inputs)
        )
        return torch.where((slots >= 0).unsqueeze(-1), own[slots.clamp(min=0)], self.seed_rows[ids] * scale)


def batches(stream: Iterator[Sample]) -> Iterator[list[Sample]]:
    """Yield batches of samples of like length, about BATCH_TOKENS each with padding."""
    while True:
        chunk = sorted(itertools.islice(stream, 256), key=lambda s: len(s.prompt) + len(s.completion))
        made: list[list[Sample]] = [[]]
        for sample in chunk:
            length = len(sample.prompt) + len(sample.completion)
            if made[-1] and (len(made[-1]) + 1) * length > BATCH_TOKENS:
                made.append([])
            made[-1].append(sample)
        order = np.random.Generator(np.random.PCG64(len(chunk) + len(chunk[0].prompt))).permutation(len(made))
        yield from (made[i] for i in order)


def loss_of(model: TinyModel, batch: list[Sample], generator: torch.Generator) -> tuple[Tensor, float]:
    """Return the mean loss over the learned tokens, and the share of the copied ones that it would choose."""
    length = max(len(s.prompt) + len(s.completion) for s in batch)
    ids = torch.full((len(batch), length), shape.END_OF_TEXT)
    where: list[tuple[int, int]] = []
    weight: list[float] = []
    excluded: list[int] = []
    for row, sample in enumerate(batch):
        whole = sample.prompt + sample.completion
        ids[row, : len(whole)] = torch.tensor(whole)
        for offset, value in enumerate(sample.weights):
            if value:
                weight.append(value)
                where.append((row, len(sample.prompt) + offset))
                excluded.append(sample.excluded[offset])
    index = torch.tensor(where)
    targets = ids[index[:, 0], index[:, 1]]
    hidden = model.blocks(model.rows(ids, output=False), positions(batch, length, generator))
    pool = draw_candidates(model, torch.cat([torch.unique(ids), targets]), generator)
    losses, right = sampled_loss(
        model, hidden[index[:, 0], index[:, 1] - 1], targets, torch.tensor(excluded), pool
    )
    weights_of = torch.tensor(weight)
    copied = weights_of > 1
    return (losses * weights_of).sum() / weights_of.sum(), float(right[copied].float().mean())


def positions(batch: list[Sample], length: int, generator: torch.Generator) -> Tensor:
    """Return positions; in some rows they jump in the prompt, as if it were thousands of tokens longer."""
    result = torch.arange(length).repeat(len(batch), 1)
    for row, sample in enumerate(batch):
        if torch.rand((), generator=generator) < 0.3:
            at = int(torch.randint(30, len(sample.prompt), (), generator=generator))
            result[row, at:] += int(torch.randint(1, 6000, (), generator=generator))
    return result


def draw_candidates(model: TinyModel, seen: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the sorted ids that surely compete (trained or `seen`), and others drawn from all the rest."""
    known = torch.unique(torch.cat([model.trained, seen]))
    drawn = torch.randint(len(model.seed_rows), (NEGATIVES,), generator=generator)
    return known, drawn[~torch.isin(drawn, known)]


def sampled_loss(
    model: TinyModel, hidden: Tensor, targets: Tensor, excluded: Tensor, pool: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the loss of each row of `hidden` [n, HIDDEN], and whether its target would be chosen."""
    known, drawn = pool
    candidates = torch.cat(pool)
    stands_for = math.log((len(model.seed_rows) - len(known)) / len(drawn))
    logits = hidden @ model.rows(candidates, output=True).T
    logits = logits + torch.cat([torch.zeros(len(known)), torch.full((len(drawn),), stands_for)])
    logits = logits.masked_fill(candidates[None] == excluded[:, None], -1e9)
    wanted = torch.searchsorted(known, targets)
    return functional.cross_entropy(logits, wanted, reduction="none"), logits.argmax(dim=-1) == wanted


def trained_tokens(tokens: Tokens) -> list[int]:
    """Return the ids whose rows are trained: set phrases, and what frames a conversation or declares a tool.

    A copied token keeps its seed rows, or the model would learn which words are frequent instead of copying.
    """
    written = np.zeros(shape.VOCABULARY, dtype=int)
    framing = np.zeros(shape.VOCABULARY, dtype=int)
    for sample in itertools.islice(samples(tokens, SEED + 1), LEARNED_FROM):
        for token, weight in zip(sample.completion, sample.weights, strict=True):
            written[token] += weight == 1
        framing[list(set(sample.prompt))] += 1
    chosen = (written >= LEARNED_LEAST) | (framing >= LEARNED_FROM * FRAMING_SHARE)
    chosen[shape.START_OF_TEXT : shape.CALL + 1] = True
    return [int(i) for i in np.flatnonzero(chosen)]


def learning_rate(done: float, step: int) -> float:
    """Return the rate at a share `done` of the run: a short warm-up, then a cosine down to a fiftieth."""
    return (
        PEAK_RATE * min(1.0, (step + 1) / 60) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))
    )


def train(tokens: Tokens, *, steps: int, seed: int, report: Callable[[str], object]) -> TinyModel:
    """Train for `steps` steps and return the model; `report` gets a line now and then."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = TinyModel(torch.from_numpy(weights.seed_rows(tokens.bytes)), trained_tokens(tokens))
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    started, losses, right = time.monotonic(), 0.0, 0.0
    for step, batch in enumerate(itertools.islice(batches(samples(tokens, seed)), steps)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step / steps, step)
        loss, accuracy = loss_of(model, batch, generator)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses, right = losses + loss.item(), right + accuracy
        if (step + 1) % REPORT_EVERY == 0:
            report(
                f"step {step + 1}/{steps} loss {losses / REPORT_EVERY:.4f} copied {right / REPORT_EVERY:.4f} "
                f"{time.monotonic() - started:.0f} s\n"
            )
            losses, right = 0.0, 0.0
    return model


def trained_part(model: TinyModel, sharpness: float) -> weights.Trained:
    """Return what is shipped; the final norm is scaled so that sampling at temperature 1 is sharp."""
    blocks = {f"model.{name}": value.detach().numpy() for name, value in model.blocks.state_dict().items()}
    blocks[weights.NORM] = blocks[weights.NORM] * sharpness
    return weights.Trained(
        blocks={name: weights.to_bits(value) for name, value in blocks.items()},
        ids=model.trained.numpy().astype(np.int32),
        inputs=weights.to_bits(model.inputs.detach().numpy()),
        outputs=weights.to_bits(model.outputs.detach().numpy()),
    )


def main() -> None:
    """Train and save the trained part."""
    parser = argparse.ArgumentParser(description="Train the tiny model.")
    parser.add_argument("--vocabulary", type=Path, required=True, help="directory of o200k_base.tiktoken")
    parser.add_argument("--out", type=Path, required=True, help="the safetensors file to write")
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    os.environ["TIKTOKEN_ENCODINGS_BASE"] = str(arguments.vocabulary)
    model = train(
        Tokens(arguments.vocabulary), steps=arguments.steps, seed=arguments.seed, report=sys.stderr.write
    )
    weights.save(trained_part(model, SHARPNESS), arguments.out)


if __name__ == "__main__":
    main()
