"""One request id, one success: idempotency claims.

The region's ledger remembers, for all routers of the region, which ids are running or have succeeded and with what content.
A small local table answers first, and alone while the ledger is down: then two routers could run one id, which is the
price of failing over at all; the worker's grant still runs each reservation once.
"""

from collections import OrderedDict

from router.capacity.ledger import LedgerUnavailable, RequestClaim
from router.capacity.ledger_guard import LedgerGuard
from router.policy.parameters import Parameters
from router.policy.vocabulary import Outcome
from router.status import RequestError, Violation

REMEMBERED_MAX = 100_000


class RequestClaims:
    """Claims of one router."""

    def __init__(self, guard: LedgerGuard) -> None:
        self._guard = guard
        self._local: OrderedDict[str, tuple[str, RequestClaim]] = OrderedDict()

    async def claim(self, request_id: str, digest: str, running_us: int, parameters: Parameters) -> None:
        """Take the id for this content, for a run that is over in `running_us` at the latest.

        Raises `RequestError` when it is running, has succeeded, or means something else.
        """
        known = self._local.get(request_id)
        if known is not None:
            self._refuse(request_id, known[1] if known[0] == digest else RequestClaim.OTHER_CONTENT)
        # Before the first await, so that of two calls at the same moment one sees the other.
        self._local[request_id] = (digest, RequestClaim.RUNNING)
        while len(self._local) > REMEMBERED_MAX:
            self._local.popitem(last=False)
        share, floor = parameters.retry_budget_share, parameters.retry_budget_floor_per_s
        try:
            claim = await self._guard.act(
                "claim_request", lambda ledger: ledger.claim_request(request_id, digest, running_us, share, floor)
            )
        except LedgerUnavailable:
            return
        except BaseException:
            self._local.pop(request_id, None)
            raise
        if claim is not RequestClaim.FRESH:
            self._local.pop(request_id, None)
            self._refuse(request_id, claim)

    async def settle(self, request_id: str, digest: str, *, succeeded: bool) -> None:
        """End a claim that `claim` gave."""
        if succeeded:
            self._local[request_id] = (digest, RequestClaim.SUCCEEDED)
        else:
            self._local.pop(request_id, None)
        try:
            await self._guard.act(
                "settle_request", lambda ledger: ledger.settle_request(request_id, digest, succeeded=succeeded)
            )
        except LedgerUnavailable:
            return

    def _refuse(self, request_id: str, claim: RequestClaim) -> None:
        if claim is RequestClaim.OTHER_CONTENT:
            text = "was used for a request with other content: choose a new id for every new request"
            raise RequestError(
                Outcome.INVALID, f"request_id: {request_id!r} {text}", violations=(Violation("request_id", text),),
                reason="REQUEST_ID_REUSED",
            )  # fmt: skip
        if claim is RequestClaim.RUNNING:
            raise RequestError(
                Outcome.DUPLICATE, f"request {request_id!r} is running already; wait for it", reason="REQUEST_RUNNING"
            )
        raise RequestError(
            Outcome.DUPLICATE, f"request {request_id!r} has already succeeded; choose a new id to run it again",
            reason="REQUEST_SUCCEEDED",
        )  # fmt: skip
