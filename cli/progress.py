"""Live progress of one generation on standard error: a bar on a terminal, a few plain lines elsewhere."""

import contextlib
from collections.abc import Iterator
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from cli.terminal import note, note_console, say_milliseconds
from homeward import Event, Finished, Placed, Waiting
from homeward import Progress as Step

# In a log, more lines than these tell nothing more.
_QUARTERS = 4


class Display(Protocol):
    """Shows events as they come."""

    def show(self, event: Event) -> None:
        """Show one event."""


@contextlib.contextmanager
def open_display() -> Iterator[Display]:
    """Choose the display that standard error can show, and clear it away at the end."""
    console = note_console()
    if console.is_terminal and not console.is_dumb_terminal:
        with _make_bar(console) as bar:
            yield BarDisplay(bar)
    else:
        yield LineDisplay()


def waiting_text(event: Waiting) -> str:
    """Say what is waited for."""
    return f"waiting {say_milliseconds(event.wait_ms)}: no slot was free in round {event.attempts} ({event.reason})"


def placed_text(event: Placed) -> str:
    """Say where the job runs."""
    later = f", starts {say_milliseconds(event.start_delay_ms)} later" if event.start_delay_ms else ""
    return f"placed in {event.served_region} on {event.worker}{later}"


class LineDisplay:
    """Plain lines: every wait and placement, and the steps in quarters."""

    def __init__(self) -> None:
        self._quarter = 0

    def show(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Waiting():
                note(waiting_text(event))
            case Placed():
                self._quarter = 0
                note(placed_text(event))
            case Step():
                quarter = int(event.fraction * _QUARTERS)
                if quarter > self._quarter:
                    self._quarter = quarter
                    note(f"{event.stage} {event.step}/{event.steps}")
            case Finished():
                pass


class BarDisplay:
    """A progress bar whose label says what is going on."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task: TaskID = bar.add_task("asking for a slot", total=None)

    def show(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Waiting():
                self._bar.update(self._task, description=waiting_text(event), total=None)
            case Placed():
                self._bar.update(self._task, description=placed_text(event), total=None, completed=0)
            case Step():
                self._bar.update(self._task, description=event.stage, total=event.steps, completed=event.step)
            case Finished():
                pass


def _make_bar(console: Console) -> Progress:
    text = TextColumn("{task.description}", markup=False)
    return Progress(SpinnerColumn(), text, BarColumn(), TimeElapsedColumn(), console=console, transient=True)
