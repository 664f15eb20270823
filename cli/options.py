"""Options that several commands share."""

from typing import Annotated

import typer

RouterOption = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Router to ask.", show_default="$HOMEWARD_ROUTER, else the running local fleet"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write one JSON document to standard output.")]
