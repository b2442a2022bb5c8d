"""All verbs in one application."""

from __future__ import annotations

import typer

from gateway import __version__
from gateway.cli import demonstrate, operate, protocol, run, simulator, site

app = typer.Typer(
    name="bess-gateway",
    help="Edge gateway for hybrid battery storage.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for part in (run.app, demonstrate.app, site.app, operate.app):
    app.registered_commands.extend(part.registered_commands)
app.add_typer(protocol.app, name="protocol")
app.add_typer(operate.schedule_app, name="schedule")
app.add_typer(simulator.app, name="simulator")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)
