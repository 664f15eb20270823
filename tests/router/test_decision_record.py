"""The record behind `explain`: bounded, and readable."""

import itertools

import pytest

from router import decision_record
from router.decision_record import DecisionRecord, sentence
from router.policy.state import Command, Event
from router.policy.vocabulary import CommandKind, EventKind, Outcome, Reason, Refusal

NAMES = ("eu-west", "us-east")


def command(
    kind: CommandKind, reason: Reason, region: int = 1, at_us: int = 0, outcome: Outcome = Outcome.NONE
) -> Command:
    return Command(kind.value, region, at_us, outcome.value, reason.value, 0.75, 0.9, 0.2, 0.1)


def test_the_oldest_request_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision_record, "REQUESTS_MAX", 10)
    record = DecisionRecord(NAMES)
    for number in range(25):
        record.begin(f"request-{number}", "animate", number)
    assert len(record) == 10
    assert record.find("request-14") is None
    assert record.find("request-15") is not None
    record.begin("request-15", "animate", 99)
    record.begin("request-new", "animate", 100)
    assert record.find("request-15") is not None, "an id that comes again is young again"
    assert record.find("request-16") is None


def test_a_story_is_bounded_and_still_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision_record, "DECISIONS_PER_REQUEST_MAX", 5)
    record = DecisionRecord(NAMES)
    story = record.begin("request-1", "animate", 1_000)
    for _ in range(20):
        record.note(story, Event(EventKind.WOKEN.value), command(CommandKind.RESERVE, Reason.WAIT_OVER), 1, 2_000, -1)
    finish = command(CommandKind.FINISH, Reason.SUCCEEDED, outcome=Outcome.OK)
    record.note(story, Event(EventKind.DONE.value), finish, 1, 3_000, 5)
    assert len(story.decisions) == 5
    assert story.decisions[-1].command == "finish", "the last one says how it ended"
    assert (story.outcome, story.served_region) == (Outcome.OK, "us-east")


def test_one_decision_with_all_its_numbers() -> None:
    record = DecisionRecord(NAMES)
    story = record.begin("request-1", "animate", 1_000)
    event = Event(EventKind.REFUSED.value, 1, Refusal.FULL.value)
    record.note(story, event, command(CommandKind.RESERVE, Reason.RING_UNLOCKED, 0, 9_000), 2, 4_000, 250)
    decision = story.decisions[-1]
    assert (decision.at_us, decision.event, decision.command, decision.region) == (3_000, "refused", "reserve", "eu-west")
    assert (decision.reason, decision.refusal, decision.attempt) == (Reason.RING_UNLOCKED, Refusal.FULL, 2)
    assert (decision.home_load, decision.pressure, decision.share, decision.draw) == (0.75, 0.9, 0.2, 0.1)
    assert (decision.delay_us, decision.snapshot_age_us) == (5_000, 250)
    assert decision.text == "ask eu-west for a slot: home is full (load 0.75), its ring is open"


def test_a_failure_has_no_serving_region() -> None:
    record = DecisionRecord(NAMES)
    story = record.begin("request-1", "animate", 0)
    shed = command(CommandKind.SHED, Reason.ATTEMPTS_SPENT, at_us=2_000_000, outcome=Outcome.NO_CAPACITY)
    record.note(story, Event(EventKind.REFUSED.value, 1), shed, 6, 500_000, 0)
    decision = story.decisions[-1]
    assert (story.outcome, story.served_region) == (Outcome.NO_CAPACITY, "")
    assert decision.text == "refuse (NO_CAPACITY): attempts_spent; come back in 1500 ms"


@pytest.mark.parametrize(("kind", "reason"), list(itertools.product(CommandKind, Reason)))
def test_there_is_a_sentence_for_everything(kind: CommandKind, reason: Reason) -> None:
    outcome = Outcome.OK if kind is CommandKind.FINISH else Outcome.NO_CAPACITY
    text = sentence(command(kind, reason, outcome=outcome), "us-east", "eu-west", 1, 250)
    assert 5 < len(text) < 160
    assert "\n" not in text
    assert "{" not in text


@pytest.mark.parametrize(
    ("kind", "reason", "text"),
    [
        (CommandKind.RESERVE, Reason.HOME_FIRST, "ask us-east for a slot: home is tried first"),
        (CommandKind.RESERVE, Reason.HOME_FAILED, "ask us-east for a slot: home cannot serve, failing over"),
        (CommandKind.RESERVE, Reason.NEXT_REGION, "ask us-east for a slot: eu-west had no slot, the next nearest"),
        (
            CommandKind.DISPATCH, Reason.START_DELAYED,
            "start in us-east 250 ms later: pressure 0.90 delays a share of 0.20, the draw 0.10 is inside",
        ),
        (
            CommandKind.DISPATCH, Reason.START_NOT_DRAWN,
            "start in us-east at once: pressure 0.90 delays a share of 0.20, the draw 0.10 is outside",
        ),
        (CommandKind.DISPATCH, Reason.START_NOW, "start in us-east at once: pressure 0.90 is low"),
        (CommandKind.WITHDRAW_BUDGET, Reason.RETRY_NEEDS_BUDGET, "ask the retry budget for attempt 2"),
        (CommandKind.WAIT, Reason.SLOT_ETA, "wait 250 ms: a slot is expected to free"),
        (CommandKind.WAIT, Reason.BACKOFF, "wait 250 ms: exponential backoff with full jitter"),
        (CommandKind.FINISH, Reason.SUCCEEDED, "end: OK"),
    ],
)  # fmt: skip
def test_sentences(kind: CommandKind, reason: Reason, text: str) -> None:
    assert sentence(command(kind, reason, outcome=Outcome.OK), "us-east", "eu-west", 1, 250) == text
