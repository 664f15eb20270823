"""Idempotency claims, with a ledger that is slow, down, or used by two routers."""

import asyncio
import contextlib
from typing import Any

import pytest

from homeward.v1 import generation_pb2
from router.capacity.ledger import LedgerUnavailable, RequestClaim
from router.capacity.ledger_guard import LedgerGuard
from router.metrics import Metrics
from router.policy.parameters import parameters
from router.request_claims import RequestClaims
from router.servicers.generation import GenerationServicer
from router.status import RequestError
from tests.router.driver_world import Answer, World
from tests.router.photos import png
from tests.router.virtual_time import run_virtual


class ClaimLedger:
    """As much of a ledger as claims need; every act takes `takes_s`, and takes effect in the middle."""

    def __init__(self, takes_s: float = 0.1) -> None:
        self.takes_s = takes_s
        self.down = False
        self.claims: dict[str, tuple[str, RequestClaim]] = {}

    async def _way(self) -> None:
        await asyncio.sleep(self.takes_s / 2)
        if self.down:
            raise LedgerUnavailable("gone")

    async def claim_request(self, request_id: str, digest: str, *_: float) -> RequestClaim:
        await self._way()
        known = self.claims.get(request_id)
        answer = RequestClaim.FRESH
        if known is not None:
            answer = known[1] if known[0] == digest else RequestClaim.OTHER_CONTENT
        else:
            self.claims[request_id] = (digest, RequestClaim.RUNNING)
        await self._way()
        return answer

    async def settle_request(self, request_id: str, digest: str, *, succeeded: bool) -> None:
        await self._way()
        if succeeded:
            self.claims[request_id] = (digest, RequestClaim.SUCCEEDED)
        else:
            self.claims.pop(request_id, None)
        await self._way()


def claims_on(ledger: Any) -> RequestClaims:
    guard = LedgerGuard(ledger, Metrics("r0"))
    guard.up = True
    return RequestClaims(guard)


async def reason(claims: RequestClaims, digest: str = "a") -> str:
    """Claim; the reason of the refusal, or "" when it was given."""
    try:
        await claims.claim("request-1", digest, 60_000_000, parameters())
    except RequestError as refused:
        return refused.reason
    return ""


def test_the_life_of_an_id() -> None:
    async def scenario() -> None:
        claims = claims_on(ClaimLedger())
        assert await reason(claims) == ""
        assert await reason(claims) == "REQUEST_RUNNING"
        assert await reason(claims, "b") == "REQUEST_ID_REUSED"
        await claims.settle("request-1", "a", succeeded=False)
        assert await reason(claims) == ""
        await claims.settle("request-1", "a", succeeded=True)
        assert await reason(claims) == "REQUEST_SUCCEEDED"
        assert await reason(claims, "b") == "REQUEST_ID_REUSED"

    run_virtual(scenario())


def test_two_routers_of_a_region() -> None:
    async def scenario() -> None:
        ledger = ClaimLedger()
        one, two = claims_on(ledger), claims_on(ledger)
        assert await reason(one) == ""
        assert await reason(two) == "REQUEST_RUNNING"
        assert await reason(two) == "REQUEST_RUNNING", "its refusal left nothing behind"
        await one.settle("request-1", "a", succeeded=False)
        assert await reason(two) == ""

    run_virtual(scenario())


def test_many_at_one_moment() -> None:
    async def scenario() -> None:
        claims = claims_on(ClaimLedger())
        reasons = await asyncio.gather(*(reason(claims) for _ in range(10)))
        assert sorted(reasons) == ["", *["REQUEST_RUNNING"] * 9]

    run_virtual(scenario())


def test_without_a_ledger_a_router_remembers_alone() -> None:
    async def scenario() -> None:
        ledger = ClaimLedger()
        ledger.down = True
        claims = claims_on(ledger)
        assert await reason(claims) == ""
        assert await reason(claims) == "REQUEST_RUNNING"
        await claims.settle("request-1", "a", succeeded=True)
        assert await reason(claims) == "REQUEST_SUCCEEDED"

    run_virtual(scenario())


def test_the_local_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.request_claims.REMEMBERED_MAX", 5)

    async def scenario() -> None:
        claims = claims_on(ClaimLedger())
        for number in range(20):
            await claims.claim(f"request-{number}", "a", 60_000_000, parameters())
        assert len(claims._local) == 5

    run_virtual(scenario())


class Call:
    """As much of a gRPC context as a request needs."""

    def time_remaining(self) -> float:
        return 60.0

    async def write(self, _message: object) -> None:
        return

    async def abort(self, *_: object) -> None:
        raise AssertionError("refused")


@pytest.mark.parametrize("cancelled_after_s", [0.0, 0.02, 0.05, 0.08, 0.099, 0.11, 0.3])
def test_a_caller_that_goes_away_lets_go_of_its_id(monkeypatch: pytest.MonkeyPatch, cancelled_after_s: float) -> None:
    """Also when it goes while the claim is under way: the id would count as running until the deadline."""

    async def at_once(function: Any, *arguments: Any) -> Any:
        return function(*arguments)

    monkeypatch.setattr(asyncio, "to_thread", at_once)  # a thread's time is not virtual

    async def scenario() -> None:
        ledger = ClaimLedger()
        world = World([Answer(takes_us=1_000_000)])
        servicer = GenerationServicer(world.around, claims_on(ledger))
        request = generation_pb2.GenerateRequest(request_id="request-1", model="animate", photo=png())
        running = asyncio.create_task(servicer.Generate(request, Call()))  # type: ignore[arg-type]
        await asyncio.sleep(cancelled_after_s)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await servicer.idle()
        assert ledger.claims == {}
        world.books.check()
        assert await reason(claims_on(ledger)) == ""

    run_virtual(scenario())
