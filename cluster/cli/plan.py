"""The command ``plan``: how many GPUs a site needs, by simulation of its load."""

import math
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from cluster.cli.common import FINDING, USAGE, JsonOption, fail, load_settings, print_json
from cluster.core.effort import EFFORTS
from cluster.serving import profiles
from cluster.serving.profiles import ProfileError
from cluster.settings.models import Efforts

TOKEN_MS = 50.0
"""Objective between tokens where nothing else is said: twenty a second, faster than anybody reads."""

WIDTH = 100
"""Columns that the table takes."""

Three = tuple[float, float, float]


def plan(
    users: Annotated[int, typer.Option(min=1, max=1_000_000, help="People who use it.", show_default=False)],
    gpu: Annotated[str, typer.Option(help="GPU profile: `h100-80gb`, `h200` or `b200`.", show_default=False)],
    model: Annotated[str, typer.Option(help="Model served, one replica per GPU.")] = "gpt-oss-120b",
    requests_per_hour: Annotated[
        float, typer.Option(min=0.01, max=3600, help="Requests of one user in a usual working hour.")
    ] = 12,
    peak: Annotated[
        float, typer.Option(min=1, max=20, help="Rate of the busiest hour over the usual one.")
    ] = 2,
    mix: Annotated[str, typer.Option(help="Per cent of low/medium/high effort.")] = "60/30/10",
    outputs: Annotated[
        str, typer.Option(help="Mean output tokens of low/medium/high effort, reasoning included.")
    ] = "400/1500/8000",
    prompt: Annotated[
        str, typer.Option(help="Shortest and longest prompt in tokens; short ones are more frequent.")
    ] = "200-8000",
    wait_s: Annotated[
        str | None,
        typer.Option(
            help="Seconds to the first token of low/medium/high effort (95th percentile).",
            show_default="from --config, else 1/5/30",
        ),
    ] = None,
    inter_token_ms: Annotated[
        str | None,
        typer.Option(
            help="Milliseconds between tokens, one or low/medium/high (95th percentile).",
            show_default="from --config, else 50",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Settings document whose objectives to hold.", show_default=False)
    ] = None,
    max_gpus: Annotated[int, typer.Option(min=1, max=256, help="Most GPUs that may be had.")] = 128,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same answer.")] = 1,
    plot: Annotated[
        Path | None, typer.Option(help="Write times over GPUs to this PNG file.", show_default=False)
    ] = None,
    json: JsonOption = False,
) -> None:
    """Say how many GPUs a site needs: its busiest hour is simulated, under the product's own routing.

    The fewest GPUs are sought that give the first token in time, keep the pace between tokens and refuse at
    most 1 % of any effort; and the fewest that still do when a replica dies or drains. Replicas follow
    published curves: an estimate, for half a minute on two cores.

    Example: gpt-oss-cluster plan --users 500 --gpu h100-80gb --mix 60/30/10 --wait-s 1/5/30

    Exit status 0: an answer; 1: no size up to --max-gpus holds; 2: usage.
    """
    _check_gpu(model, gpu)
    _check_plot(plot)
    shares, means, lengths = _mix(mix), _outputs(outputs), _prompt(prompt, model, gpu)
    waits, paces = _objectives(config, model)
    waits = waits if wait_s is None else _three("--wait-s", wait_s, example="1/5/30")
    paces = paces if inter_token_ms is None else _three("--inter-token-ms", inter_token_ms, example="50")

    from cluster.demo.progress import Progress  # noqa: PLC0415 - imports that cost time
    from loadtest.fleet import plan_report, planning  # noqa: PLC0415
    from loadtest.fleet.lab import Lab  # noqa: PLC0415
    from loadtest.fleet.sizing import Objective, Site  # noqa: PLC0415

    site = Site(users, requests_per_hour, peak, shares, gpu, means, lengths)
    with Progress(Console(stderr=True)) as progress, Lab(progress.doing) as lab:
        found = planning.plan(
            site, Objective(waits, paces), lab.measure, most=max_gpus, seed=seed, told=progress.done
        )
    if json:
        print_json(plan_report.as_json(found))
    else:
        console = Console(width=max(Console().width, WIDTH))
        console.print(f"[bold]{plan_report.answer(found)}[/bold]", highlight=False)
        if found.sizes:
            console.print(plan_report.table(found))
        for line in plan_report.assumptions(found):
            console.print(line, highlight=False)
    if plot is not None and found.sizes:
        plan_report.save_plot(found, plot)
    if found.enough is None:
        raise typer.Exit(FINDING)


def _check_gpu(model: str, gpu: str) -> None:
    from loadtest.fleet.engine import GPUS, MODEL  # noqa: PLC0415 - imports that cost time

    if model != MODEL:
        fail(f"--model {escape(model)}: only {MODEL} has published curves to simulate", USAGE)
    try:
        profiles.find(model, gpu)
    except ProfileError as error:
        fail(f"--gpu {escape(gpu)}: {escape(str(error))}", USAGE)
    if gpu not in GPUS:
        fail(f"--gpu {gpu}: nobody has published a curve for it; there are: {', '.join(GPUS)}", USAGE)


def _check_plot(plot: Path | None) -> None:
    if plot is not None and (plot.is_dir() or not plot.parent.is_dir()):
        fail(f"--plot {escape(str(plot))}: give the name of a file in a folder that is there", USAGE)


def _objectives(config: Path | None, model: str) -> tuple[Three, Three]:
    """Return the settings' waits in seconds and paces in milliseconds, by effort."""
    efforts = Efforts()
    if config is not None:
        models = load_settings(config).models
        if model not in models:
            fail(f"--config {escape(str(config))}: it has no model {escape(model)}", USAGE)
        efforts = models[model].efforts
    low, medium, high = (efforts[effort].slo for effort in EFFORTS)
    return (low.wait_s, medium.wait_s, high.wait_s), (
        low.inter_token_ms or TOKEN_MS,
        medium.inter_token_ms or TOKEN_MS,
        high.inter_token_ms or TOKEN_MS,
    )


def _mix(text: str) -> Three:
    numbers = _numbers(text, "/")
    if len(numbers) != len(EFFORTS) or min(numbers) < 0 or abs(sum(numbers) - 100) > 1e-6:
        fail(f"--mix {escape(text)}: give three shares that add up to 100, such as 60/30/10", USAGE)
    low, medium, high = (number / 100 for number in numbers)
    return low, medium, high


def _outputs(text: str) -> Three:
    efforts, means = Efforts(), _three("--outputs", text, example="400/1500/8000")
    for effort, mean in zip(EFFORTS, means, strict=True):
        most = efforts[effort].max_output_tokens
        if not 1 <= mean <= most:
            fail(f"--outputs {escape(text)}: {effort} effort gives 1 to {most:,} tokens", USAGE)
    return means


def _prompt(text: str, model: str, gpu: str) -> tuple[int, int]:
    numbers, most = _numbers(text, "-"), int(profiles.find(model, gpu).flags["max_model_len"].value)
    if len(numbers) != 2 or not 1 <= numbers[0] <= numbers[1] <= most:
        fail(
            f"--prompt {escape(text)}: give the shortest and the longest, 1 to {most:,} tokens on {gpu}, "
            "such as 200-8000",
            USAGE,
        )
    return round(numbers[0]), round(numbers[1])


def _three(option: str, text: str, *, example: str) -> Three:
    numbers = _numbers(text, "/")
    numbers = numbers * 3 if len(numbers) == 1 else numbers
    if len(numbers) != len(EFFORTS) or not min(numbers) > 0:
        fail(f"{option} {escape(text)}: give positive numbers for low/medium/high, such as {example}", USAGE)
    low, medium, high = numbers
    return low, medium, high


def _numbers(text: str, between: str) -> list[float]:
    """Return the numbers in ``text``, none where one of them is not a finite number."""
    try:
        numbers = [float(part) for part in text.split(between)]
    except ValueError:
        return []
    return numbers if all(map(math.isfinite, numbers)) else []
