"""Where output goes: data to standard output, everything else to standard error."""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

# A table in a file or a pipe has no screen to fit, whatever COLUMNS says: wide enough that no cell is cut or folded.
_WIDTH_ELSEWHERE = 100_000
_GAP = 2  # blanks between columns


def data_console() -> Console:
    """Return the console of standard output. rich itself heeds NO_COLOR and leaves colours out when it is no terminal."""
    width = None if sys.stdout.isatty() else _WIDTH_ELSEWHERE
    return Console(file=sys.stdout, width=width, highlight=False, soft_wrap=False)


def note_console() -> Console:
    """Return the console of standard error, for progress."""
    return Console(file=sys.stderr, highlight=False)


def note(text: str) -> None:
    """Show one line on standard error, as it is; nobody hears it where that is closed."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def say(text: str) -> None:
    """Write one line of data, as it is."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def say_json(document: Any) -> None:
    """Write one JSON document."""
    say(json.dumps(document, indent=2))


def say_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    names: frozenset[str],
    numbers: frozenset[str] = frozenset(),
    leave_out: Sequence[str] = (),
) -> None:
    """Write a table in which nothing is ever cut.

    names: columns that say what a row is about; neither folded nor left out.
    numbers: columns that are right-aligned and not folded.
    leave_out: columns that a narrow terminal does not get, the least important first; which ones is said on standard error.

    On a narrow terminal headers and the other columns fold at blanks first. Where all of this is not enough, the lines are
    longer than the terminal is wide.
    """
    console = data_console()
    shown = [
        _Column(name, [row[index] for row in rows], is_stiff=name in names or name in numbers) for index, name in enumerate(columns)
    ]
    left_out: list[str] = []
    for name in leave_out:
        if _total([column.narrowest for column in shown]) <= console.width:
            break
        left_out.append(name)
        shown = [column for column in shown if column.name != name]
    widths = _share(shown, console.width)
    console.width = max(console.width, _total(widths))
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, _GAP - 1, 0, 0))
    for column, width in zip(shown, widths, strict=True):
        align: Literal["left", "right"] = "right" if column.name in numbers else "left"
        table.add_column(column.name, justify=align, vertical="top", width=width, overflow="fold")
    for cells in zip(*(column.cells for column in shown), strict=True):
        table.add_row(*(escape(cell) for cell in cells))
    console.print(table)
    if left_out:
        note(f"left out, for want of width: {', '.join(left_out)}")


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    cells: Sequence[str]
    is_stiff: bool
    """Whether its cells are never folded; its header may be."""

    @property
    def narrowest(self) -> int:
        """Its width when everything is folded that may be."""
        cells = self.cells if self.is_stiff else [word for cell in self.cells for word in cell.split()]
        return _longest([*self.name.split(), *cells])

    @property
    def natural(self) -> int:
        """Its width when nothing is folded."""
        return _longest([self.name, *self.cells])


def _share(columns: Sequence[_Column], width: int) -> list[int]:
    """Return the columns' widths: none below its narrowest; what the terminal has beyond that goes to the last ones first."""
    widths = [column.narrowest for column in columns]
    spare = width - _total(widths)
    for index, column in reversed(list(enumerate(columns))):
        more = max(0, min(spare, column.natural - widths[index]))
        widths[index] += more
        spare -= more
    return widths


def _longest(parts: Iterable[str]) -> int:
    return max(map(cell_len, parts), default=0)


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def say_milliseconds(value_ms: float) -> str:
    """Return a time for people: "0 ms", "340 ms", "2.4 s", "3 min 10 s"."""
    if value_ms < 1000:
        return f"{value_ms:.0f} ms"
    if value_ms < 120_000:
        return f"{value_ms / 1000:.1f} s"
    minutes, seconds = divmod(round(value_ms / 1000), 60)
    return f"{minutes} min {seconds} s"
