"""Commands on the tiny checkpoint: ``demo-model vocabulary|build|verify``."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from cluster.cli.common import CACHE, JsonOption, fail, print_json
from cluster.vocabulary import VARIABLE, VocabularyError

if TYPE_CHECKING:
    from cluster.tinymodel.verify import Report

app = typer.Typer(
    help="The tiny gpt-oss checkpoint: a real GptOssForCausalLM for machines without a GPU.",
    no_args_is_help=True,
)

VocabularyOption = Annotated[
    Path, typer.Option("--vocabulary-dir", help="Folder with o200k_base.tiktoken (demo-model vocabulary).")
]


@app.command()
def vocabulary(
    target: Annotated[Path, typer.Argument(help="Folder to write o200k_base.tiktoken to.")],
    harmony_dir: Annotated[
        Path, typer.Option(help="Folder that `pip install --no-deps --target` put oss-harmony in.")
    ] = CACHE / "oss-harmony",
) -> None:
    """Rebuild the Harmony vocabulary without a network, and check its SHA-256."""
    from cluster.tinymodel import vocabulary as rebuilder  # noqa: PLC0415 - only this command needs it

    try:
        typer.echo(rebuilder.rebuild(target, harmony_dir=harmony_dir))
    except VocabularyError as error:
        fail(str(error))


@app.command()
def build(
    target: Annotated[Path, typer.Argument(help="Checkpoint directory to write.")] = CACHE / "tiny-gptoss",
    vocabulary_dir: VocabularyOption = CACHE / "vocabulary",
) -> None:
    """Assemble the checkpoint directory; does nothing when it is there and whole."""
    from cluster.tinymodel import build as assembly  # noqa: PLC0415 - loads numpy and tokenizers

    try:
        typer.echo(assembly.build(target, vocabulary_dir=vocabulary_dir))
    except VocabularyError as error:
        fail(str(error))


@app.command()
def verify(
    base_url: Annotated[str, typer.Option(help="OpenAI endpoint that serves the checkpoint.")],
    key_file: Annotated[Path, typer.Option(help="File with its API key.")],
    model: Annotated[str, typer.Option(help="Model name to ask for.")] = "gpt-oss-120b",
    prompts: Annotated[int, typer.Option(min=1, help="Chat prompts at each effort.")] = 300,
    direct: Annotated[
        bool,
        typer.Option(help="The endpoint is a replica itself: parse its token ids strictly too."),
    ] = False,
    vocabulary_dir: VocabularyOption = CACHE / "vocabulary",
    json: JsonOption = False,
) -> None:
    """Ask a served checkpoint hundreds of unseen questions; exit status 1 when too many answers fail."""
    os.environ[VARIABLE] = str(vocabulary_dir.resolve())
    from cluster.tinymodel import verify as verifier  # noqa: PLC0415 - reads the variable, loads Harmony

    report = verifier.verify(base_url, key_file.read_text().strip(), model, prompts=prompts, direct=direct)
    if json:
        print_json(report.as_dict())
    else:
        Console().print(_table(report), f"{report.distinct_answers} distinct chat answers.", sep="\n")
    if not report.passed:
        fail("; ".join(report.failures))


def _table(report: "Report") -> Table:
    table = Table("task / effort", "asked", "right", "share", "reasoning tokens: mean (p5 to p95)")
    for name, rate in report.rates.items():
        length = {f"chat/{effort}": length for effort, length in report.reasoning.items()}.get(name)
        told = f"{length.mean:.0f} ({length.p5:.0f} to {length.p95:.0f})" if length else ""
        table.add_row(name, str(rate.asked), str(rate.right), f"{rate.share:.1%}", told)
    return table
