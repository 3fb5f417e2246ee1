"""Commands on the tiny checkpoint: ``demo-model vocabulary|build|verify``."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.common import CACHE, JsonOption, fail, print_json

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
    except rebuilder.VocabularyError as error:
        fail(str(error))


@app.command()
def build(
    target: Annotated[Path, typer.Argument(help="Checkpoint directory to write.")] = CACHE / "tiny-gptoss",
    vocabulary_dir: VocabularyOption = CACHE / "vocabulary",
) -> None:
    """Assemble the checkpoint directory; does nothing when it is there and whole."""
    from cluster.tinymodel import build as assembly  # noqa: PLC0415 - loads numpy and tokenizers
    from cluster.tinymodel.vocabulary import VocabularyError  # noqa: PLC0415 - the same

    try:
        typer.echo(assembly.build(target, vocabulary_dir=vocabulary_dir))
    except (assembly.CheckpointError, VocabularyError) as error:
        fail(str(error))
