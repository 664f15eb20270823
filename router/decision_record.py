"""Why each request went where it went: the decisions of the last requests, with the numbers they saw.

Bounded: the oldest request is forgotten first, and one request keeps at most `DECISIONS_PER_REQUEST_MAX` decisions: the
first ones, and the last.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass, field

from homeward.v1 import operations_pb2, outcome_pb2, peering_pb2
from router.policy.state import Command, Event
from router.policy.vocabulary import CommandKind, EventKind, Outcome, Reason

REQUESTS_MAX = 10_000
DECISIONS_PER_REQUEST_MAX = 1_000


@dataclass(slots=True)
class Story:
    """One request's decisions."""

    request_id: str
    model: str
    arrived_at_us: int
    arrived_unix_us: int = field(default_factory=lambda: time.time_ns() // 1000)
    decisions: list[operations_pb2.Decision] = field(default_factory=list)
    outcome: Outcome = Outcome.NONE
    served_region: str = ""


def sentence(command: Command, region: str, asked: str, attempt: int, delay_ms: int) -> str:
    """One readable sentence for a decision. `region` is the command's, `asked` the event's region (may be empty)."""
    kind, reason = CommandKind(command.kind), Reason(command.reason)
    if kind is CommandKind.RESERVE:
        why = {
            Reason.HOME_FIRST: "home is tried first",
            Reason.RING_UNLOCKED: f"home is full (load {command.home_load:.2f}), its ring is open",
            Reason.HOME_FAILED: "home cannot serve, failing over",
            Reason.NEXT_REGION: f"{asked} had no slot, the next nearest",
            Reason.WAIT_OVER: "the wait is over, home first again",
            Reason.WORKER_FAILED_RETRY: "the worker failed, at once again on another one",
        }.get(reason, reason.name.lower())
        return f"ask {region} for a slot: {why}"
    if kind is CommandKind.DISPATCH:
        if reason is Reason.START_DELAYED:
            return (
                f"start in {region} {delay_ms} ms later: pressure {command.pressure:.2f} delays a share of {command.share:.2f}, "
                f"the draw {command.draw:.2f} is inside"
            )
        if reason is Reason.START_NOT_DRAWN:
            return (
                f"start in {region} at once: pressure {command.pressure:.2f} delays a share of {command.share:.2f}, "
                f"the draw {command.draw:.2f} is outside"
            )
        return f"start in {region} at once: pressure {command.pressure:.2f} is low"
    if kind is CommandKind.WITHDRAW_BUDGET:
        return f"ask the retry budget for attempt {attempt + 1}"
    if kind is CommandKind.WAIT:
        what = "a slot is expected to free" if reason is Reason.SLOT_ETA else "exponential backoff with full jitter"
        return f"wait {delay_ms} ms: {what}"
    if kind is CommandKind.SHED:
        back = f"; come back in {delay_ms} ms" if delay_ms > 0 else ""
        return f"refuse ({Outcome(command.outcome).name}): {reason.name.lower()}{back}"
    return f"end: {Outcome(command.outcome).name}"


class DecisionRecord:
    """The last `REQUESTS_MAX` requests of one router."""

    def __init__(self, region_names: tuple[str, ...]) -> None:
        self._names = region_names
        self._stories: OrderedDict[str, Story] = OrderedDict()

    def __len__(self) -> int:
        return len(self._stories)

    def begin(self, request_id: str, model: str, arrived_at_us: int) -> Story:
        """Open a story; a repeated id starts anew."""
        self._stories.pop(request_id, None)
        story = Story(request_id, model, arrived_at_us)
        self._stories[request_id] = story
        while len(self._stories) > REQUESTS_MAX:
            self._stories.popitem(last=False)
        return story

    def find(self, request_id: str) -> Story | None:
        """The story of a request, or None if it was never here or is forgotten."""
        return self._stories.get(request_id)

    def note(
        self, story: Story, event: Event, command: Command, attempt: int, now_us: int, snapshot_age_us: int
    ) -> None:
        """Add one decision."""
        name = self._names[command.region] if command.region >= 0 else ""
        asked = self._names[event.region] if event.region >= 0 else ""
        happened = EventKind(event.kind).name.lower()
        decision = operations_pb2.Decision(
            at_us=now_us - story.arrived_at_us,
            event=happened,
            command=CommandKind(command.kind).name.lower(),
            region=name,
            reason=outcome_pb2.Reason.Name(command.reason),
            attempt=attempt,
            home_load=command.home_load,
            pressure=command.pressure,
            share=command.share,
            draw=command.draw,
            delay_us=max(0, command.at_us - now_us),
            snapshot_age_us=snapshot_age_us,
            refusal=peering_pb2.RefusalReason.Name(event.refusal),
            text=sentence(command, name, asked, attempt, max(0, command.at_us - now_us) // 1000),
        )
        if len(story.decisions) >= DECISIONS_PER_REQUEST_MAX:
            # The newest says how it ended.
            story.decisions.pop()
        story.decisions.append(decision)
        if command.kind in (CommandKind.FINISH, CommandKind.SHED):
            story.outcome = Outcome(command.outcome)
            story.served_region = name if story.outcome is Outcome.OK else ""
