"""Where output goes: data to standard output, everything else to standard error."""

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

# A table in a file or a pipe has no screen to fit: wide enough that no cell is cut.
_WIDTH_ELSEWHERE = 160


def data_console() -> Console:
    """Return the console of standard output. rich itself heeds NO_COLOR and leaves colours out when it is no terminal."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDTH_ELSEWHERE
    return Console(file=sys.stdout, width=width, highlight=False, soft_wrap=False)


def note_console() -> Console:
    """Return the console of standard error, for progress."""
    return Console(file=sys.stderr, highlight=False)


def note(text: str) -> None:
    """Show one line on standard error, as it is."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def say(text: str) -> None:
    """Write one line of data, as it is."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def say_json(document: Any) -> None:
    """Write one JSON document."""
    say(json.dumps(document, indent=2))


def say_table(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: frozenset[str] = frozenset()) -> None:
    """Write a table; the columns named in `numbers` are right-aligned."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", no_wrap=column in numbers)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    data_console().print(table)


def say_milliseconds(value_ms: float) -> str:
    """Return a time for people: "0 ms", "340 ms", "2.4 s", "3 min 10 s"."""
    if value_ms < 1000:
        return f"{value_ms:.0f} ms"
    if value_ms < 120_000:
        return f"{value_ms / 1000:.1f} s"
    minutes, seconds = divmod(round(value_ms / 1000), 60)
    return f"{minutes} min {seconds} s"
