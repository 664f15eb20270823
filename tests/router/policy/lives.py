"""A third interpreter of the policy, next to the router's and the simulator's: it writes down everything.

It carries commands out by asking `answer` what happens, and keeps every act of a request's life: what came in, what was
seen, what was decided. Tests read the acts; golden traces print them.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from router.policy.parameters import Parameters
from router.policy.state import Command, Event, State, View, arrival
from router.policy.step import step
from router.policy.vocabulary import CommandKind, EventKind, Failure, Outcome, Reason, Refusal

from .worlds import YEARS_US, some_answer, some_draw, some_duration_us, some_view

LAST = (CommandKind.FINISH, CommandKind.SHED)


class Happening(NamedTuple):
    """What the world does next to one request."""

    event: Event
    now_us: int
    u: float
    view: View


class Act(NamedTuple):
    """One call of `step`: what it was given, and what it gave back."""

    before: State
    event: Event
    now_us: int
    u: float
    view: View
    after: State
    command: Command


Answer = Callable[[State, Command, int], Happening]


def live(first: Happening, deadline_at_us: int, given: Parameters, answer: Answer, acts_max: int) -> list[Act]:
    """Drive one request from ARRIVED to its end, or through `acts_max` acts if it does not end."""
    state = arrival(first.now_us, deadline_at_us)
    happening = first
    acts: list[Act] = []
    while len(acts) < acts_max:
        event, now_us, u, view = happening
        after, command = step(state, event, now_us, u, given, view)
        acts.append(Act(state, event, now_us, u, view, after, command))
        if command.kind in LAST:
            break
        state = after
        happening = answer(state, command, now_us)
    return acts


def acts_bound(given: Parameters) -> int:
    """Most acts of a life: the arrival, and for each attempt its answers, the end of its run, its token and its wake-up."""
    return 1 + given.attempts_max * (given.regions_per_attempt_max + 3)


class Adversary:
    """A legal but hostile world: stale views, lost races, slow answers, dying workers, a mean budget."""

    def __init__(self, rng: Random, given: Parameters, deadline_at_us: int, regions_most: int) -> None:
        self._rng = rng
        self._given = given
        self._deadline_at_us = deadline_at_us
        self._generosity = rng.choice((0.0, 0.1, 0.5))
        self._meanness = rng.choice((0.0, 0.1, 0.5))
        self._impatience = rng.choice((0.0, 0.0, 0.05))
        self._steadiness = rng.choice((0.0, 0.5, 1.0))
        self.view = some_view(rng, given, regions_most)

    def answer(self, state: State, command: Command, now_us: int) -> Happening:
        """What happens after `command`."""
        rng = self._rng
        self._refresh()
        later_us = max(now_us, command.at_us) + rng.choice((0, 1, some_duration_us(rng, 10_000_000)))
        if later_us >= self._deadline_at_us and rng.random() < 0.5:
            return self._now(Event(EventKind.DEADLINE.value), max(now_us, self._deadline_at_us))
        if rng.random() < self._impatience:
            return self._now(Event(EventKind.CANCELLED.value), later_us)
        return self._now(self._result(command), later_us)

    def _now(self, event: Event, now_us: int) -> Happening:
        return Happening(event, now_us, some_draw(self._rng), self.view)

    def _result(self, command: Command) -> Event:
        rng = self._rng
        kind = CommandKind(command.kind)
        if kind is CommandKind.RESERVE:
            granted = rng.random() < self._generosity
            return some_answer(rng, (EventKind.GRANTED if granted else EventKind.REFUSED).value, command.region)
        if kind is CommandKind.DISPATCH:
            if rng.random() < 0.2:
                return Event(EventKind.DONE.value, region=command.region)
            failure = rng.choice((Failure.WORKER_LOST, Failure.WORKER_LOST, Failure.WORKER_REFUSED, Failure.INPUT_REJECTED))
            return Event(EventKind.FAILED.value, region=command.region, failure=failure.value)
        if kind is CommandKind.WITHDRAW_BUDGET:
            return Event((EventKind.BUDGET_DENIED if rng.random() < self._meanness else EventKind.BUDGET_GRANTED).value)
        assert kind is CommandKind.WAIT
        return Event(EventKind.WOKEN.value)

    def _refresh(self) -> None:
        """Snapshots change under way; who is where does not."""
        if self._rng.random() < self._steadiness:
            return
        rng, old = self._rng, self.view
        limit = self._given.snapshot_age_max_us
        self.view = old._replace(
            offered=[rng.choice((0, 1, 7)) for _ in old.ring],
            age_us=[rng.choice((-1, 0, limit, limit + 1)) for _ in old.ring],
            waiting=rng.choice((0, 1, old.waiting, old.waiting)),
        )


def any_life(rng: Random, given: Parameters, regions_most: int = 8) -> list[Act]:
    """One hostile life; deadlines from hopeless to ten years."""
    now_us = rng.choice((0, 1_800_000_000_000_000))
    left_us = rng.choice((0, rng.randrange(10_000_000), rng.randrange(600_000_000), 3_600_000_000, YEARS_US, YEARS_US))
    world = Adversary(rng, given, now_us + left_us, regions_most)
    first = Happening(Event(EventKind.ARRIVED.value), now_us, some_draw(rng), world.view)
    return live(first, now_us + left_us, given, world.answer, acts_bound(given) + 5)


def told(acts: Sequence[Act], names: Sequence[str]) -> str:
    """The acts as a trace: a line for each event and a line for each command, with the numbers that were seen."""
    return "\n".join(line for act in acts for line in (_told_event(act, names), _told_command(act, names))) + "\n"


def _seconds(instant_us: int) -> str:
    return f"{instant_us / 1e6:10.6f}s"


def _told_event(act: Act, names: Sequence[str]) -> str:
    event = act.event
    words = [f"{_seconds(act.now_us)} <- {EventKind(event.kind).name:<15}"]
    if event.region >= 0:
        words.append(names[event.region])
    if event.kind == EventKind.REFUSED:
        words.append(f"{Refusal(event.refusal).name} eta={event.eta_us / 1e6:g}s")
    if event.kind == EventKind.FAILED:
        words.append(Failure(event.failure).name)
    if event.kind == EventKind.GRANTED:
        words.append(f"run={event.run_us / 1e6:g}s")
    if event.kind in (EventKind.GRANTED, EventKind.REFUSED):
        words.append(f"slots={event.slots} busy={event.busy} waiting={event.waiting}")
    return " ".join([*words, f"u={act.u:g}"])


def _told_command(act: Act, names: Sequence[str]) -> str:
    command = act.command
    kind = CommandKind(command.kind)
    words = [f"{_seconds(act.now_us)} -> {kind.name:<15}"]
    if command.region >= 0:
        words.append(names[command.region])
    if kind in LAST:
        words.append(Outcome(command.outcome).name)
    words.append(f"because {Reason(command.reason).name} attempt={act.after.attempt}")
    if kind in (CommandKind.WAIT, CommandKind.DISPATCH, CommandKind.SHED):
        words.append(f"at={command.at_us / 1e6:.6f}s")
    if kind in (CommandKind.RESERVE, CommandKind.WITHDRAW_BUDGET, CommandKind.SHED):
        words.append(f"home_load={command.home_load:g}")
    if kind is CommandKind.DISPATCH:
        words.append(f"pressure={command.pressure:g} share={command.share:g}")
    return " ".join(words)
