"""`homeward router …` and `homeward worker …`: the deployed processes, with their own arguments.

The command becomes that process (exec), so signals, exit code and standard streams are the process's own.
"""

import os
import sys

import typer

from cli.failure import Failure
from localfleet.plan import missing_package

# Everything behind the name belongs to the other program, also --help.
PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def router(context: typer.Context) -> None:
    """Run a region's router (needs the extra `router`); takes the arguments of `python -m router`."""
    _become("router", "router", context.args)


def worker(context: typer.Context) -> None:
    """Run a GPU worker (needs the extra `worker`); takes the arguments of `python -m workers`."""
    _become("worker", "workers", context.args)


def _become(extra: str, module: str, arguments: list[str]) -> None:
    missing = missing_package(extra)
    if missing is not None:
        raise Failure(missing, kind="MissingPackage")
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, *arguments])
