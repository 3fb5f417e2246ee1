"""The benchmark's command line."""

from typer.testing import CliRunner

from loadtest.bench.__main__ import app

RUN = CliRunner()


def test_an_unknown_contender_is_refused_before_anything_starts() -> None:
    """The message names it, and the status says usage."""
    done = RUN.invoke(app, ["--only", "hare"])
    assert done.exit_code == 2
    assert "no such contender: hare" in done.output
