"""Whole lives as readable traces in `golden/`. After a wanted change: `pytest --update-goldens`, then read the diff."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from router.policy.parameters import parameters
from router.policy.state import Command, Event, State, View
from router.policy.vocabulary import CommandKind, EventKind, Failure, Refusal

from .lives import Happening, live, told
from .worlds import SECOND_US

FOLDER = Path(__file__).parent / "golden"
REGIONS = ("tokyo", "osaka", "seoul", "oregon")
FLEET = View(
    home=0, ring=[0, 1, 2, 3], rtt_us=[0, 9_000, 33_000, 98_000], offered=[6, 6, 6, 6], age_us=[0, 400_000, 700_000, 900_000],
    serves=[1, 1, 1, 1], load=[0.4, 0.5, 0.25, 0.1], waiting=0, run_us=5 * SECOND_US,
)  # fmt: skip


class Answer(NamedTuple):
    """One answer of the world: what happens, how long after the command's instant, and the draw for the decision."""

    after_s: float
    event: Event
    u: float = 0.5


def granted(region: int, **numbers: int) -> Event:
    return Event(EventKind.GRANTED.value, region=region, run_us=5 * SECOND_US, **{"slots": 8, "busy": 4, **numbers})


def refused(region: int, refusal: Refusal, **numbers: int) -> Event:
    return Event(EventKind.REFUSED.value, region=region, refusal=refusal.value, **numbers)


def failed(region: int) -> Event:
    return Event(EventKind.FAILED.value, region=region, failure=Failure.WORKER_LOST.value)


def plain(kind: EventKind, region: int = -1) -> Event:
    return Event(kind.value, region=region)


FULL_HOME = refused(0, Refusal.FULL, slots=8, busy=8, waiting=3)
TOKEN, NO_TOKEN, AWAKE = plain(EventKind.BUDGET_GRANTED), plain(EventKind.BUDGET_DENIED), plain(EventKind.WOKEN)


class Story(NamedTuple):
    """A life to be told: the overrides, the fleet, the time the caller gives, and the answers of the world in turn."""

    about: str
    answers: Sequence[Answer]
    view: View = FLEET
    timeout_s: float = 60.0
    overrides: Mapping[str, object] = {}


STORIES = {
    "stays_home": Story(
        "Home has a slot: one question, one run.",
        [Answer(0.001, granted(0)), Answer(5.2, plain(EventKind.DONE, 0))],
    ),
    "spills_to_ring_1": Story(
        "Home is full; the nearest open ring gives a slot. That region is hot, so the draw delays the start a little.",
        [
            Answer(0.001, FULL_HOME),
            Answer(0.011, granted(1, busy=8, waiting=1), u=0.125),
            Answer(5.3, plain(EventKind.DONE, 1)),
        ],
    ),
    "waits_for_the_slot": Story(
        "Three regions refuse; home knows when its next slot frees, so the wait is that time plus a draw.",
        [
            Answer(0.001, refused(0, Refusal.FULL, slots=8, busy=8, eta_us=1_500_000)),
            Answer(0.011, refused(1, Refusal.FULL, slots=8, busy=8, eta_us=2_000_000)),
            Answer(0.035, refused(2, Refusal.FULL, slots=8, busy=8), u=0.4),
            Answer(0.0, TOKEN),
            Answer(0.0, AWAKE),
            Answer(0.001, granted(0, busy=8), u=0.9),
            Answer(5.1, plain(EventKind.DONE, 0)),
        ],
        view=FLEET._replace(waiting=3),
    ),
    "worker_fails_and_is_retried_at_once": Story(
        "The first failure is retried without a wait; the second one backs off; the third one ends it (attempts_max = 3).",
        [
            Answer(0.001, granted(0)),
            Answer(2.0, failed(0)),
            Answer(0.0, TOKEN),
            Answer(0.001, granted(0)),
            Answer(1.0, failed(0)),
            Answer(0.0, TOKEN),
            Answer(0.0, AWAKE),
            Answer(0.001, granted(0)),
            Answer(0.5, failed(0)),
        ],
        overrides={"attempts_max": 3},
    ),
    "budget_denied": Story(
        "Nobody has a slot and the budget has no token: shed, with a time to come back.",
        [Answer(0.001, FULL_HOME), Answer(0.0, NO_TOKEN, u=0.25)],
        view=FLEET._replace(offered=[0, 0, 0, 0]),
    ),
    "deadline_hopeless": Story(
        "A run takes 5 s and the caller gives 4: refused before anything is asked.",
        [],
        timeout_s=4.0,
    ),
    "home_ledger_down": Story(
        "Home's ledger is down: failover, although home's last known load would open no ring.",
        [
            Answer(0.25, refused(0, Refusal.LEDGER_DOWN)),
            Answer(0.011, refused(1, Refusal.UNREACHABLE)),
            Answer(0.035, granted(2)),
            Answer(5.2, plain(EventKind.DONE, 2)),
        ],
    ),
    "caller_goes_away": Story(
        "The caller cancels while the request waits.",
        [Answer(0.001, FULL_HOME), Answer(0.0, TOKEN), Answer(-0.05, plain(EventKind.CANCELLED))],
        view=FLEET._replace(offered=[0, 0, 0, 0]),
    ),
}


def trace(story: Story) -> str:
    answers = iter(story.answers)

    def answer(state: State, command: Command, now_us: int) -> Happening:
        after_s, event, u = next(answers)
        # A wait or a start ends at the command's instant; everything else is answered from now on.
        start_us = command.at_us if command.kind in (CommandKind.WAIT, CommandKind.DISPATCH) else now_us
        return Happening(event, start_us + round(after_s * SECOND_US), u, story.view)

    first = Happening(plain(EventKind.ARRIVED), 0, 0.5, story.view)
    acts = live(first, round(story.timeout_s * SECOND_US), parameters(story.overrides), answer, acts_max=100)
    assert next(answers, None) is None, "the life ended before the story"
    head = [f"# {story.about}", f"# timeout {story.timeout_s:g} s, overrides {dict(story.overrides)}"]
    view = story.view
    for region, name in enumerate(REGIONS):
        head.append(
            f"# {name:<6} ring {view.ring[region]} rtt {view.rtt_us[region] / 1e3:g} ms offered {view.offered[region]}"
            f" age {view.age_us[region] / 1e6:g} s load {view.load[region]:g}"
        )
    head.append(f"# at home {view.waiting} wait, a run takes {view.run_us / 1e6:g} s")
    return "\n".join(head) + "\n" + told(acts, REGIONS)


@pytest.mark.parametrize("name", STORIES)
def test_golden_trace(name: str, update_goldens: bool) -> None:
    path = FOLDER / f"{name}.txt"
    now = trace(STORIES[name])
    if update_goldens:
        path.write_text(now, encoding="utf-8")
    assert now == path.read_text(encoding="utf-8")


def test_every_golden_trace_has_its_story() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(STORIES)
