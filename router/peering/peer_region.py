"""Another region as a place to ask for slots: its router decides, within what it offers.

Asks are paced (asyncio-throttle): a home that runs hot must not become somebody else's flood. When more than
`ASKS_WAITING_MAX` asks wait for the pace, further ones count as unreachable at once.
"""

import grpc
from asyncio_throttle.throttler import Throttler

from homeward.v1 import peering_pb2, peering_pb2_grpc
from router.channels import Channels
from router.metrics import Metrics
from router.peering.distance import travel
from router.placement_targets import Ask, Granted, NotGranted
from router.policy.vocabulary import Refusal

ASKS_PER_S = 500
ASKS_WAITING_MAX = 64
ANSWER_S = 2.0
"""A router answers in milliseconds; one that takes this long on top of the distance counts as unreachable."""

ETA_MS_MAX = 3_600_000
"""What a peer says beyond this is not believed to the letter."""
_KNOWN_REFUSALS = frozenset(int(refusal) for refusal in Refusal)


class PeerRegion:
    """Slots of another region."""

    def __init__(
        self, region: str, address: str, home_region: str, channels: Channels, metrics: Metrics, rtt_us: int, emulate_rtt: bool
    ) -> None:
        self.region = region
        self._home_region = home_region
        self._metrics = metrics
        self._stub = peering_pb2_grpc.PeeringStub(channels.to_router(address))
        self._one_way_us = rtt_us // 2 if emulate_rtt else 0
        self._answer_s = ANSWER_S + rtt_us / 1e6
        self._pace = Throttler(rate_limit=ASKS_PER_S, period=1.0)
        self._waiting = 0

    async def reserve(self, ask: Ask) -> Granted | NotGranted:
        """Ask the region's router for a slot."""
        if self._waiting >= ASKS_WAITING_MAX:
            self._metrics.peer_asks_dropped.inc()
            return NotGranted(Refusal.UNREACHABLE)
        self._waiting += 1
        try:
            async with self._pace:
                pass
        finally:
            self._waiting -= 1
        await travel(self._one_way_us)
        try:
            answer: peering_pb2.ReserveResponse = await self._stub.Reserve(
                peering_pb2.ReserveRequest(
                    from_region=self._home_region,
                    reservation_id=ask.reservation_id,
                    request_id=ask.request_id,
                    model=ask.model,
                    request_sha256=ask.request_sha256,
                    time_left_ms=ask.time_left_us // 1000,
                    exclude_workers=sorted(ask.exclude_workers),
                ),
                timeout=min(self._answer_s, max(ask.time_left_us, 1) / 1e6),
            )
        except grpc.aio.AioRpcError:
            return NotGranted(Refusal.UNREACHABLE, maybe_claimed=True)
        await travel(self._one_way_us)
        if answer.WhichOneof("answer") != "granted":
            refused = answer.refused
            # A newer router may know more reasons than we do.
            reason = Refusal(int(refused.reason)) if int(refused.reason) in _KNOWN_REFUSALS else Refusal.FULL
            eta_ms = min(max(0, refused.eta_ms), ETA_MS_MAX)
            return NotGranted(reason, eta_ms * 1000, max(0, refused.slots), max(0, refused.busy))
        granted = answer.granted
        return Granted(
            reservation_id=ask.reservation_id,
            grant=granted.grant,
            worker=granted.worker,
            address=granted.address,
            variant=granted.variant,
            variant_digest=granted.variant_digest,
            service_us=max(0, granted.service_ms) * 1000,
            slots=max(0, granted.slots),
            busy=max(0, granted.busy),
            waiting=max(0, granted.waiting),
            expires_in_us=max(0, granted.expires_in_ms) * 1000,
        )

    async def release(self, reservation_id: str) -> bool:
        """Give a slot back; whether it was still there. If the region cannot be reached the reservation expires by itself."""
        await travel(self._one_way_us)
        request = peering_pb2.ReleaseRequest(reservation_id=reservation_id, from_region=self._home_region)
        try:
            answer: peering_pb2.ReleaseResponse = await self._stub.Release(request, timeout=self._answer_s)
        except grpc.aio.AioRpcError:
            return False
        return answer.released
