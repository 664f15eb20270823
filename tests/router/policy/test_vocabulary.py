"""The policy's words are the wire's words, number by number."""

from enum import IntEnum

import pytest
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from homeward.v1 import outcome_pb2, peering_pb2
from router.policy.vocabulary import CommandKind, EventKind, Failure, Outcome, Phase, Reason, Refusal


@pytest.mark.parametrize(
    ("ours", "wire", "prefix"),
    [
        (Outcome, outcome_pb2.Outcome, "OUTCOME_"),
        (Reason, outcome_pb2.Reason, "REASON_"),
        (Refusal, peering_pb2.RefusalReason, "REFUSAL_REASON_"),
    ],
)
def test_equals_the_wire(ours: type[IntEnum], wire: EnumTypeWrapper, prefix: str) -> None:
    on_the_wire = {name.removeprefix(prefix): number for name, number in wire.items()}
    on_the_wire["NONE"] = on_the_wire.pop("UNSPECIFIED")
    assert {word.name: word.value for word in ours} == on_the_wire


@pytest.mark.parametrize("words", [Phase, EventKind, CommandKind, Failure, Refusal, Outcome, Reason])
def test_numbers_have_no_gap_and_no_alias(words: type[IntEnum]) -> None:
    """Tables of the simulator are indexed by them."""
    values = [word.value for word in words]
    assert values == list(range(values[0], values[0] + len(values)))
    assert len(words.__members__) == len(values)


def test_numbers_that_are_recorded_stay() -> None:
    """Decision records and simulation results hold these numbers: append, never renumber."""
    assert [word.name for word in EventKind] == [
        "ARRIVED", "GRANTED", "REFUSED", "FAILED", "DONE", "WOKEN", "BUDGET_GRANTED", "BUDGET_DENIED", "CANCELLED", "DEADLINE",
    ]  # fmt: skip
    assert [word.name for word in CommandKind] == ["RESERVE", "WAIT", "DISPATCH", "WITHDRAW_BUDGET", "FINISH", "SHED"]
    assert EventKind.ARRIVED.value == CommandKind.RESERVE.value == 1
