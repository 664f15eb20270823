"""What every slot ledger does with request ids, the retry budget and the secret. See `test_conformance.py`."""

from router.capacity.ledger import (
    LedgerTimings,
    RequestClaim,
    SlotLedger,
)
from router.policy.parameters import RETRY_BUDGET_TOKENS_MAX, RETRY_BUDGET_WINDOW_S
from tests.router.capacity.stands import Stand

TIMINGS = LedgerTimings()
S = 1_000_000


async def test_requests_run_once(stand: Stand) -> None:
    ledger = stand.ledger
    assert await ledger.claim_request("q", "d", 60_000_000, 0.1, 0.0) is RequestClaim.FRESH
    assert await ledger.claim_request("q", "d", 60_000_000, 0.1, 0.0) is RequestClaim.RUNNING
    assert await ledger.claim_request("q", "e", 60_000_000, 0.1, 0.0) is RequestClaim.OTHER_CONTENT
    await ledger.settle_request("q", "e", succeeded=True)
    assert await ledger.claim_request("q", "d", 60_000_000, 0.1, 0.0) is RequestClaim.RUNNING
    await ledger.settle_request("q", "d", succeeded=False)
    assert await ledger.claim_request("q", "e", 60_000_000, 0.1, 0.0) is RequestClaim.OTHER_CONTENT
    assert await ledger.claim_request("q", "d", 60_000_000, 0.1, 0.0) is RequestClaim.FRESH
    await ledger.settle_request("q", "d", succeeded=True)
    await ledger.settle_request("q", "d", succeeded=False)
    await stand.advance(TIMINGS.request_us - 1)
    assert await ledger.claim_request("q", "d", 60_000_000, 0.1, 0.0) is RequestClaim.SUCCEEDED
    await stand.advance(TIMINGS.request_us - 1)
    assert await ledger.claim_request("q", "d", 60_000_000, 0.1, 0.0) is RequestClaim.SUCCEEDED
    await stand.advance(TIMINGS.request_us)
    assert await ledger.claim_request("q", "e", 60_000_000, 0.1, 0.0) is RequestClaim.FRESH


async def test_a_run_that_should_have_ended_may_be_run_again(stand: Stand) -> None:
    """Its router was killed: nobody will ever settle it."""
    ledger = stand.ledger
    assert await ledger.claim_request("q", "d", 30 * S, 0.1, 0.0) is RequestClaim.FRESH
    await stand.advance(30 * S - 1)
    assert await ledger.claim_request("q", "d", 30 * S, 0.1, 0.0) is RequestClaim.RUNNING
    await stand.advance(1)
    assert await ledger.claim_request("q", "d", 30 * S, 0.1, 0.0) is RequestClaim.FRESH


async def test_a_success_outlives_the_memory_of_its_claim(stand: Stand) -> None:
    await stand.ledger.settle_request("q", "d", succeeded=False)
    assert await stand.ledger.claim_request("q", "d", 60_000_000, 0.1, 0.0) is RequestClaim.FRESH
    await stand.wipe()
    await stand.ledger.settle_request("q", "d", succeeded=True)
    assert await stand.ledger.claim_request("q", "d", 60_000_000, 0.1, 0.0) is RequestClaim.SUCCEEDED


async def withdrawals(ledger: SlotLedger, floor_per_s: float) -> int:
    taken = 0
    while await ledger.withdraw_retry(floor_per_s):
        taken += 1
    return taken


async def test_retries_are_a_share_of_fresh_requests(stand: Stand) -> None:
    assert await withdrawals(stand.ledger, 0.0) == 0
    for number in range(9):
        await stand.ledger.claim_request(f"q{number}", "d", 60_000_000, 0.5, 0.0)
        await stand.ledger.claim_request(f"q{number}", "d", 60_000_000, 0.5, 0.0)
    assert await withdrawals(stand.ledger, 0.0) == 4
    await stand.ledger.claim_request("last", "d", 60_000_000, 0.5, 0.0)
    assert await withdrawals(stand.ledger, 0.0) == 1


async def test_retry_credit_is_worth_nothing_after_the_window(stand: Stand) -> None:
    for number in range(10):
        await stand.ledger.claim_request(f"q{number}", "d", 60_000_000, 1.0, 0.0)
    await stand.advance((RETRY_BUDGET_WINDOW_S - 1) * S)
    assert await stand.ledger.withdraw_retry(0.0)
    await stand.advance(1 * S)
    assert not await stand.ledger.withdraw_retry(0.0)


async def test_the_retry_floor_comes_in_any_case(stand: Stand) -> None:
    assert await withdrawals(stand.ledger, 0.3) == 0.3 * RETRY_BUDGET_WINDOW_S
    await stand.advance(RETRY_BUDGET_WINDOW_S * S)
    assert await withdrawals(stand.ledger, 0.3) == 0.3 * RETRY_BUDGET_WINDOW_S


async def test_no_retry_budget_grows_beyond_its_cap(stand: Stand) -> None:
    for number in range(4):
        await stand.ledger.claim_request(f"q{number}", "d", 60_000_000, 0.4 * RETRY_BUDGET_TOKENS_MAX, 1.0)
    assert await withdrawals(stand.ledger, 1.0) == RETRY_BUDGET_TOKENS_MAX


async def test_retries_taken_long_ago_do_not_lift_the_cap(stand: Stand) -> None:
    floor_per_s = RETRY_BUDGET_TOKENS_MAX / RETRY_BUDGET_WINDOW_S
    for _ in range(600):
        assert await stand.ledger.withdraw_retry(floor_per_s)
    await stand.advance(5 * S)
    await stand.ledger.claim_request("q", "d", 60_000_000, 600.0, floor_per_s)
    await stand.advance(5 * S)  # the withdrawals leave the window, the deposit is still in it
    assert await withdrawals(stand.ledger, floor_per_s) == RETRY_BUDGET_TOKENS_MAX


async def test_the_first_secret_wins(stand: Stand) -> None:
    assert await stand.ledger.grant_secret(b"\x00\xff first") == b"\x00\xff first"
    assert await stand.ledger.grant_secret(b"second") == b"\x00\xff first"
