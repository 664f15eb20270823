"""The commands of `homeward`, put together. `cli.main` runs them."""

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from cli import fleet, operations, processes
from cli.generate import generate
from cli.terminal import say

app = typer.Typer(
    name="homeward",
    help="Keeps AI-generation requests at home: global traffic routing for GPU fleets.",
    epilog="Start with `homeward up` in one terminal and `homeward generate photo.jpg -o out.webp` in another. "
    "Exit codes: 0 it worked, 1 it failed, 2 it was asked wrongly. HOMEWARD_DEBUG=1 shows tracebacks.",
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

app.command(rich_help_panel="Gateways")(generate)
app.command(rich_help_panel="Operators")(operations.regions)
app.command(rich_help_panel="Operators")(operations.workers)
app.command(rich_help_panel="Operators")(operations.explain)
app.command(rich_help_panel="A fleet on this machine")(fleet.up)
app.command(rich_help_panel="A fleet on this machine")(fleet.demo)
app.command(rich_help_panel="Processes", context_settings=processes.PASS_THROUGH, add_help_option=False)(processes.router)
app.command(rich_help_panel="Processes", context_settings=processes.PASS_THROUGH, add_help_option=False)(processes.worker)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Decide what a bare `homeward` does."""
    if show_version:
        try:
            say(f"homeward {version('homeward')}")
        except PackageNotFoundError:
            say("homeward (not installed)")
        raise typer.Exit
    if context.invoked_subcommand is None:
        say(context.get_help())
