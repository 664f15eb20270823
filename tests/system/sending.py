"""Sending requests and noting how they went."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from homeward import AsyncClient, Event, Finished, HomewardError, Placed, Progress, new_request_id

TIMEOUT_S = 60.0


@dataclass
class Sent:
    """One request and how it went."""

    request_id: str
    events: list[Event] = field(default_factory=list)
    finished: Finished | None = None
    error: HomewardError | None = None
    is_cancelled: bool = False

    @property
    def worker(self) -> str:
        """Worker of the latest placement; empty if there was none."""
        return next((event.worker for event in reversed(self.events) if isinstance(event, Placed)), "")

    @property
    def is_running(self) -> bool:
        """Whether a worker reported a step."""
        return any(isinstance(event, Progress) for event in self.events)


def region_of(row: Sent) -> str:
    """Where the job was placed; empty if nowhere."""
    return row.worker.rpartition("-gpu-")[0]


async def send(
    client: AsyncClient, on_event: Callable[[Sent, Event], None] = lambda sent, event: None, **parameters: Any
) -> Sent:
    """Send one request; however it ends is noted, cancellation too."""
    parameters.setdefault("request_id", new_request_id())
    parameters.setdefault("timeout_s", TIMEOUT_S)
    return await follow(Sent(parameters["request_id"]), client, on_event, **parameters)


async def follow(
    sent: Sent, client: AsyncClient, on_event: Callable[[Sent, Event], None] = lambda sent, event: None, **parameters: Any
) -> Sent:
    """`send` with a record that the caller can watch."""

    def note(event: Event) -> None:
        sent.events.append(event)
        on_event(sent, event)

    try:
        sent.finished = await client.run(on_event=note, **parameters)
    except HomewardError as error:
        sent.error = error
    except asyncio.CancelledError:
        sent.is_cancelled = True
    return sent
