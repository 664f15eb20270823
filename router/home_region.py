"""The home region as a place to ask for slots: the ledger, and grants signed with the region's secret."""

import secrets
from collections.abc import Callable

from homeward.v1 import peering_pb2
from router.capacity.ledger import LedgerUnavailable, ReservationRequest, Reserved
from router.capacity.ledger_guard import LedgerGuard
from router.capacity_board import POOLS_PER_SNAPSHOT_MAX
from router.grants import SECRET_BYTES, sign_grant
from router.metrics import Metrics
from router.placement_targets import Ask, Granted, NotGranted
from router.policy.consent import offer
from router.policy.vocabulary import Refusal


class HomeRegion:
    """Slots of the router's own region, for its own requests and, within the offer, for those of others."""

    def __init__(
        self, region: str, guard: LedgerGuard, metrics: Metrics, waiting: Callable[[], int], secret: bytes | None
    ) -> None:
        self.region = region
        self.guard = guard
        self.metrics = metrics
        self.waiting = waiting
        self._proposed_secret = secret or secrets.token_bytes(SECRET_BYTES)
        self._secret: bytes | None = secret
        self._secret_epoch = 0
        self._shown: set[str] = set()

    async def secret(self) -> bytes:
        """The region's grant secret. One that was not configured is agreed on through the ledger, once per epoch.

        A ledger that lost its memory is proposed the secret in use: the attached workers hold keys derived from it.
        """
        if self._secret is None or (self._secret is not self._proposed_secret and self._secret_epoch != self.guard.epoch):
            proposal = self._secret or self._proposed_secret
            self._secret = await self.guard.act("grant_secret", lambda ledger: ledger.grant_secret(proposal))
            self._secret_epoch = self.guard.epoch
        return self._secret

    async def reserve(self, ask: Ask, keep_free_share: float = 0.0) -> Granted | NotGranted:
        """Claim one slot here; `keep_free_share` of the slots stay free (for asks from other regions)."""
        wanted = ReservationRequest(
            reservation_id=ask.reservation_id,
            request_id=ask.request_id,
            model=ask.model,
            keep_free_share=keep_free_share,
            exclude_workers=ask.exclude_workers,
        )
        try:
            answer = await self.guard.act("reserve", lambda ledger: ledger.reserve(wanted))
            if not isinstance(answer, Reserved):
                return NotGranted(answer.reason, answer.eta_us, answer.slots, answer.busy)
            self.guard.note_epoch(answer.epoch)
            secret = await self.secret()
        except LedgerUnavailable:
            return NotGranted(Refusal.LEDGER_DOWN, maybe_claimed=True)
        return Granted(
            reservation_id=answer.reservation_id,
            grant=sign_grant(secret, self.region, answer, ask.request_sha256, ask.time_left_us),
            worker=answer.worker,
            address=answer.address,
            variant=answer.variant,
            variant_digest=answer.digest,
            service_us=answer.service_us,
            slots=answer.slots,
            busy=answer.busy,
            waiting=self.waiting(),
            expires_in_us=answer.expires_in_us,
        )

    async def release(self, reservation_id: str) -> bool:
        """Give a slot back; whether it was still there. If the ledger cannot be reached the reservation expires by itself."""
        try:
            return await self.guard.act("release", lambda ledger: ledger.release(reservation_id))
        except LedgerUnavailable:
            return False

    async def snapshot(self, reserve_share: float) -> peering_pb2.WatchCapacityResponse:
        """What the region has and offers now. While the ledger is down it has nothing to offer, and says so."""
        try:
            pools = await self.guard.act("pools", lambda ledger: ledger.pools())
        except LedgerUnavailable:
            return peering_pb2.WatchCapacityResponse(
                region=self.region, epoch=self.guard.epoch, waiting=self.waiting(), ledger_down=True
            )
        # What others would not believe is not said; the largest pools matter most.
        pools = tuple(sorted(pools, key=lambda pool: (-pool.slots, pool.pool))[:POOLS_PER_SNAPSHOT_MAX])
        shown = []
        self.metrics.forget_pools(self._shown - {pool.pool for pool in pools})
        self._shown = {pool.pool for pool in pools}
        for pool in pools:
            offered = offer(pool.slots, pool.busy, reserve_share)
            self.metrics.slots.labels(pool.pool).set(pool.slots)
            self.metrics.busy.labels(pool.pool).set(pool.busy)
            self.metrics.offered.labels(pool.pool).set(offered)
            shown.append(
                peering_pb2.PoolCapacity(
                    pool=pool.pool,
                    models=pool.models,
                    slots=pool.slots,
                    busy=pool.busy,
                    offered=offered,
                    service_ms=max(1, pool.service_us // 1000),
                    workers=pool.workers,
                )
            )
        return peering_pb2.WatchCapacityResponse(
            region=self.region, epoch=self.guard.epoch, pools=shown, waiting=self.waiting()
        )
