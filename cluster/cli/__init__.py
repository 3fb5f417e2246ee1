"""``gpt-oss-cluster``: one command for the demo, the servers, keys and checks.

Exit status: 0 good, 1 a finding, 2 usage, 3 cannot reach. Imports that cost time stand inside their command,
so that ``--help`` is instant and the gateway never loads Ray.
"""

import typer

from cluster.cli import (
    admin,
    bundle,
    config,
    drain,
    loadtest,
    model,
    plan,
    preflight,
    serve,
    simulate,
    status,
)

app = typer.Typer(
    help="Serve gpt-oss-120b and gpt-oss-20b on your own GPUs, routed and limited by reasoning effort.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo")(serve.demo)
app.command("gateway")(serve.gateway)
app.command("sim")(serve.sim)
app.command("check-config")(config.check_config)
app.command("schema")(config.schema)
app.command("profiles")(config.profiles)
app.command("plan")(plan.plan)
app.command("simulate")(simulate.simulate)
app.command("preflight")(preflight.preflight)
app.command("status")(status.status)
app.command("drain")(drain.drain)
app.add_typer(admin.tenants, name="tenants")
app.add_typer(admin.keys, name="keys")
app.add_typer(loadtest.app, name="loadtest")
app.add_typer(model.app, name="demo-model")
app.add_typer(bundle.app, name="bundle")


def main() -> None:
    """Run the command line."""
    app()
