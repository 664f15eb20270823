"""What a region offers to others."""

import pytest

from router.policy.consent import offer


@pytest.mark.parametrize(
    ("slots", "busy", "reserve_share", "offered"),
    [
        (10, 0, 0.1, 9),
        (10, 8, 0.1, 1),
        (10, 9, 0.1, 0),
        (10, 10, 0.1, 0),
        (10, 12, 0.1, 0),  # a ledger that shrank under running jobs
        (4, 0, 0.1, 4),  # floor(0.4 + 0.5) = 0 slots kept
        (5, 0, 0.1, 4),  # floor(0.5 + 0.5) = 1
        (0, 0, 0.1, 0),
        (10, 3, 0.0, 7),
        (10, 0, 1.0, 0),
    ],
)
def test_offers_by_hand(slots: int, busy: int, reserve_share: float, offered: int) -> None:
    assert offer(slots, busy, reserve_share) == offered


@pytest.mark.parametrize("reserve_share", [0.0, 0.1, 0.5, 1.0])
def test_an_offer_is_free_and_leaves_the_reserve(reserve_share: float) -> None:
    for slots in range(60):
        for busy in range(slots + 1):
            offered = offer(slots, busy, reserve_share)
            assert 0 <= offered <= slots - busy
            assert offered == 0 or slots - busy - offered >= slots * reserve_share - 0.5
