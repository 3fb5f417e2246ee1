"""Commands that run until they are stopped: ``demo``, ``gateway``, ``sim``."""

import random
from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.common import CACHE, UNREACHABLE, ConfigOption, fail, load_settings
from cluster.demo.machine import Engine, Ports, free_ports
from cluster.settings import SimulatedEngine

DEFAULT = Ports()


def demo(
    engine: Annotated[
        Engine, typer.Option(help="vllm: real vLLM on CPU. sim: the simulated engine.")
    ] = "vllm",
    port: Annotated[int, typer.Option(help="Port of the gateway's API.")] = DEFAULT.gateway,
    admin_port: Annotated[int, typer.Option(help="Port of metrics and health.")] = DEFAULT.admin,
    serve_port: Annotated[int, typer.Option(help="Port of Ray Serve.")] = DEFAULT.serve,
    fallback_port: Annotated[int, typer.Option(help="Port of Serve's own proxy.")] = DEFAULT.fallback,
    haproxy_stats_port: Annotated[int, typer.Option(help="HAProxy's statistics.")] = DEFAULT.haproxy_stats,
    haproxy_metrics_port: Annotated[int, typer.Option(help="HAProxy's metrics.")] = DEFAULT.haproxy_metrics,
    free: Annotated[bool, typer.Option("--free-ports", help="Take whatever ports are free.")] = False,
    state_dir: Annotated[Path, typer.Option(help="Where the demo writes config, keys, logs.")] = CACHE
    / "demo",
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint directory.")] = CACHE / "tiny-gptoss",
    vocabulary_dir: Annotated[Path, typer.Option(help="Vocabulary directory.")] = CACHE / "vocabulary",
) -> None:
    """Run the whole system on this machine: Ray Serve, two pools, the gateway, and a key that works.

    Prints progress, then how to use it. Ctrl-C, or a kill, stops everything that it started.
    """
    from cluster.demo import run  # noqa: PLC0415 - a start-up cost that only this command needs

    chosen = Ports(port, admin_port, serve_port, fallback_port, haproxy_stats_port, haproxy_metrics_port)
    options = run.Options(
        engine=engine,
        ports=free_ports() if free else chosen,
        state=state_dir.resolve(),
        checkpoint=checkpoint.resolve(),
        vocabulary=vocabulary_dir.resolve(),
    )
    raise typer.Exit(run.run(options))


def gateway(config: ConfigOption = None) -> None:
    """Run the gateway: OpenAI's API in front of Ray Serve.

    SIGTERM stops it gracefully: readiness turns to 503, running answers get gateway.stream.drain_s seconds.
    """
    from cluster.gateway import server  # noqa: PLC0415 - a start-up cost that only this command needs

    try:
        raise typer.Exit(server.run(load_settings(config)))
    except server.StartError as error:
        fail(str(error))


def sim(
    model: Annotated[str, typer.Option(help="Model name that it serves.")] = "gpt-oss-120b",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8090,
    ttft_ms: Annotated[float, typer.Option(help="Time to the first token.")] = SimulatedEngine().ttft_ms,
    inter_token_ms: Annotated[
        float, typer.Option(help="Time between tokens when one request runs.")
    ] = SimulatedEngine().inter_token_ms,
    inter_token_per_request_ms: Annotated[
        float, typer.Option(help="Added to it for every further running request.")
    ] = SimulatedEngine().inter_token_per_request_ms,
    slots: Annotated[int, typer.Option(help="Requests that run at once.")] = SimulatedEngine().slots,
    key_file: Annotated[Path | None, typer.Option(help="File with the engine key that it demands.")] = None,
    faults: Annotated[bool, typer.Option(help="Obey fault words in the last user message.")] = False,
) -> None:
    """Run the simulated engine: vLLM's wire format with set times, without Ray, vLLM or a model."""
    from cluster.serving import sim as simulator  # noqa: PLC0415 - a start-up cost that only this needs

    behaviour = SimulatedEngine(
        ttft_ms=ttft_ms,
        inter_token_ms=inter_token_ms,
        inter_token_per_request_ms=inter_token_per_request_ms,
        slots=slots,
    )
    key = key_file.read_text().strip() if key_file else None
    replica = f"sim-{random.randrange(16**8):08x}"  # noqa: S311 - a name, not a secret
    app = simulator.create_app(behaviour, model=model, replica=replica, engine_key=key, faults=faults)
    typer.echo(f"Simulated {model} on http://{host}:{port}/v1", err=True)
    try:
        simulator.run(app, host=host, port=port)
    except simulator.AddressInUse as error:
        fail(f"{error} Choose another with --port.", UNREACHABLE)
