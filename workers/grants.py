"""Grants: the right to run one job on one slot once, verified before any work.

Theory of operation
-------------------
A router of the worker's region signs `GrantClaims` with HMAC-SHA256. Routers derive the key from the region's secret for one
worker and one incarnation, and send it in `Attached`. So the worker never holds the secret, and a key stolen from it forges
nothing for any other worker, nor for the process that replaces it.

Rules
-----
* The signature covers the claims' bytes as they came; they are parsed only to be judged after it was found right.
* A grant names region, worker, incarnation, epoch, request content, variant and weights: all must be ours.
* The fence orders grants in the ledger. It is not compared here: a job that starts a little later may be overtaken.
* A grant is spent by the job that starts, not by a refusal: a caller that found no free slot may come back with it.
* Spent reservations are remembered until their grant could no longer start anything.
* Instants come from the router's clock, so a start may look late by `CLOCK_SKEW_US`; a deadline may not.
* The epoch is the ledger's. `Attached` sets it (that router holds our lease); on one stream, and by grants, it only grows.
"""

import asyncio
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Mapping

import grpc
from google.protobuf.message import DecodeError

from homeward.request_digest import request_sha256
from homeward.v1.generation_pb2 import GenerateRequest
from homeward.v1.work_pb2 import Grant, GrantClaims
from workers.identity import WorkerIdentity
from workers.model import GenerationModel
from workers.refusals import Refusal, RefusalReason

CLOCK_SKEW_US = 2_000_000
"""NTP keeps machines within milliseconds; two seconds forgive one that has just lost it."""

CLAIMS_BYTES_MAX = 4_096
"""Every text in the claims is at most 64 characters or a digest: a real grant has about 300 bytes."""

SPENT_GRANTS_MAX = 65_536
"""1,024 slots with jobs of one second, each grant remembered for a minute. Beyond it the oldest is forgotten: it alone could
then be replayed, and the slots still bound what runs."""

KEY_WAIT_S = 1.0
"""Another router may grant our slot before our own router's `Attached` has reached us; a round trip is far below this."""


class GrantGate:
    """Decides which grants this worker honours. Used from the event loop alone."""

    def __init__(self, identity: WorkerIdentity, models: Mapping[str, GenerationModel]) -> None:
        """`models` are the loaded ones by variant id."""
        self._identity = identity
        self._models = models
        self._key = b""
        self._epoch = 0
        self._keyed = asyncio.Event()
        self._forget_at_us: OrderedDict[str, int] = OrderedDict()

    @property
    def epoch(self) -> int:
        """Newest ledger epoch known."""
        return self._epoch

    def attached(self, grant_key: bytes, epoch: int) -> None:
        """Replace key and epoch: a router has registered this worker."""
        self._key = grant_key
        self._epoch = epoch
        self._keyed.set()

    def epoch_seen(self, epoch: int) -> None:
        """Note the epoch that a heartbeat's answer named."""
        self._epoch = max(self._epoch, epoch)

    async def wait_for_key(self) -> None:
        """Wait a moment for the first `Attached`. Raises Refusal when it does not come."""
        try:
            async with asyncio.timeout(KEY_WAIT_S):
                await self._keyed.wait()
        except TimeoutError:
            raise Refusal(RefusalReason.WORKER_NOT_ATTACHED, "no router has registered this worker yet") from None

    def verify(self, grant: Grant, request: GenerateRequest, now_us: int) -> GrantClaims:
        """Return the claims of a grant that holds here and now for this request; raise Refusal otherwise."""
        claims = self._authentic_claims(grant)
        self._check_addressee(claims)
        if claims.epoch < self._epoch:
            message = f"the grant is of ledger epoch {claims.epoch}, the ledger is at {self._epoch}"
            raise Refusal(RefusalReason.GRANT_STALE_EPOCH, message)
        if claims.start_before_unix_us + CLOCK_SKEW_US < now_us:
            raise Refusal(RefusalReason.GRANT_EXPIRED, "the time to start this job has passed")
        if claims.deadline_unix_us <= now_us:
            raise Refusal(RefusalReason.GRANT_EXPIRED, "the deadline of this job has passed")
        if claims.reservation_id in self._forget_at_us:
            raise Refusal(RefusalReason.GRANT_REPLAYED, "the grant has already started a job")
        if not hmac.compare_digest(claims.request_sha256, request_sha256(request)):
            raise Refusal(RefusalReason.GRANT_OTHER_REQUEST, "the grant is for another request")
        model = self._models.get(claims.variant)
        if model is None or model.digest != claims.variant_digest or model.name != request.model:
            wanted = f"{claims.variant!r} ({claims.variant_digest!r}) of model {request.model!r}"
            message = f"this worker has not loaded variant {wanted}"
            raise Refusal(RefusalReason.VARIANT_NOT_LOADED, message)
        return claims

    def spend(self, claims: GrantClaims, now_us: int) -> None:
        """Remember that a grant was used, until it could no longer start anything."""
        assert claims.reservation_id not in self._forget_at_us, "verify refuses spent grants"
        while self._forget_at_us and next(iter(self._forget_at_us.values())) < now_us:
            self._forget_at_us.popitem(last=False)
        while len(self._forget_at_us) >= SPENT_GRANTS_MAX:
            self._forget_at_us.popitem(last=False)
        self._forget_at_us[claims.reservation_id] = claims.start_before_unix_us + CLOCK_SKEW_US

    def _authentic_claims(self, grant: Grant) -> GrantClaims:
        if len(grant.claims) > CLAIMS_BYTES_MAX:
            raise Refusal(RefusalReason.GRANT_FORGED, "the grant is too large")
        expected = hmac.digest(self._key, grant.claims, hashlib.sha256)
        authentic = bool(self._key) and hmac.compare_digest(expected, grant.signature)
        try:
            claims = GrantClaims.FromString(grant.claims)
        except DecodeError:
            raise Refusal(RefusalReason.GRANT_FORGED, "the grant cannot be read") from None
        if not authentic:
            # A grant for our predecessor carries its key's signature. Nothing is honoured on the word of unsigned claims;
            # they only choose the refusal, so that a restart does not look like an attack.
            if claims.incarnation and claims.incarnation != self._identity.incarnation:
                self._check_addressee(claims)
            raise Refusal(RefusalReason.GRANT_FORGED, "the grant's signature is wrong")
        if not claims.reservation_id:
            raise Refusal(RefusalReason.GRANT_FORGED, "the grant names no reservation")
        return claims

    def _check_addressee(self, claims: GrantClaims) -> None:
        mine = self._identity
        if (claims.region, claims.worker) != (mine.region, mine.worker):
            message = f"the grant is for worker {claims.worker!r} of region {claims.region!r}"
            raise Refusal(RefusalReason.GRANT_FOREIGN, message)
        if claims.incarnation != mine.incarnation:
            message = "the grant is for another incarnation of this worker"
            raise Refusal(RefusalReason.GRANT_FOREIGN, message, code=grpc.StatusCode.FAILED_PRECONDITION)
