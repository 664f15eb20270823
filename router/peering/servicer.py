"""Peering, the serving side: what routers of other regions may see and ask here."""

import math
from collections.abc import AsyncIterator, Callable

import grpc

from homeward.v1 import peering_pb2, peering_pb2_grpc
from router.home_region import HomeRegion
from router.metrics import Metrics
from router.peering.snapshots import HomeSnapshots
from router.placement_targets import Ask, Granted
from router.policy.parameters import Parameters
from router.policy.vocabulary import Refusal
from router.request_check import EXCLUDED_WORKERS_MAX, RESERVATION_ID, ROUNDING_S, TIMEOUT_S_MAX
from router.status import Context, abort, invalid
from router.topology import Topology

WATCHERS_MAX = 256


class PeeringServicer(peering_pb2_grpc.PeeringServicer):
    """Serves snapshots and reservations to the other regions of the topology."""

    def __init__(
        self,
        topology: Topology,
        home: HomeRegion,
        snapshots: HomeSnapshots,
        metrics: Metrics,
        parameters: Parameters,
        draining: Callable[[], bool],
    ) -> None:
        self._topology, self._home, self._snapshots = topology, home, snapshots
        self._metrics, self._parameters, self._draining = metrics, parameters, draining
        self._watchers = 0

    async def WatchCapacity(  # noqa: N802
        self, request: peering_pb2.WatchCapacityRequest, context: Context
    ) -> AsyncIterator[peering_pb2.WatchCapacityResponse]:
        """Stream snapshots until the other side hangs up."""
        if request.from_region not in self._topology.names:
            await abort(context, invalid("from_region", f"{request.from_region!r} is not in this router's topology"))
        if self._watchers >= WATCHERS_MAX:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"at most {WATCHERS_MAX} watchers")
        self._watchers += 1
        try:
            yield self._snapshots.aged()
            while True:
                yield await self._snapshots.next()
        finally:
            self._watchers -= 1

    async def Reserve(  # noqa: N802
        self, request: peering_pb2.ReserveRequest, context: Context
    ) -> peering_pb2.ReserveResponse:
        """Claim a slot for another region's request, never touching this region's reserve."""
        await self._check(request, context)
        if self._draining():
            return self._answer(request.from_region, peering_pb2.ReserveRefused(reason=peering_pb2.REFUSAL_REASON_DRAINING))
        answer = await self._home.reserve(
            Ask(
                reservation_id=request.reservation_id,
                request_id=request.request_id,
                model=request.model,
                request_sha256=request.request_sha256,
                time_left_us=request.time_left_ms * 1000,
                exclude_workers=frozenset(request.exclude_workers),
            ),
            keep_free_share=self._parameters.reserve_share,
        )
        if not isinstance(answer, Granted):
            return self._answer(
                request.from_region,
                peering_pb2.ReserveRefused(
                    reason=peering_pb2.RefusalReason.Name(answer.refusal),
                    eta_ms=math.ceil(answer.eta_us / 1000),
                    slots=answer.slots,
                    busy=answer.busy,
                ),
            )
        self._metrics.asked_by_peer(request.from_region, "granted")
        return peering_pb2.ReserveResponse(
            granted=peering_pb2.ReserveGranted(
                grant=answer.grant,
                worker=answer.worker,
                address=answer.address,
                variant=answer.variant,
                variant_digest=answer.variant_digest,
                slots=answer.slots,
                busy=answer.busy,
                service_ms=max(1, answer.service_us // 1000),
                waiting=answer.waiting,
                expires_in_ms=answer.expires_in_us // 1000,
            )
        )

    async def Release(  # noqa: N802
        self, request: peering_pb2.ReleaseRequest, context: Context
    ) -> peering_pb2.ReleaseResponse:
        """Take a reservation back."""
        if not RESERVATION_ID.fullmatch(request.reservation_id):
            await abort(context, invalid("reservation_id", f"must match {RESERVATION_ID.pattern}"))
        return peering_pb2.ReleaseResponse(released=await self._home.release(request.reservation_id))

    async def _check(self, request: peering_pb2.ReserveRequest, context: Context) -> None:
        if request.from_region not in self._topology.names:
            await abort(context, invalid("from_region", f"{request.from_region!r} is not in this router's topology"))
        if not RESERVATION_ID.fullmatch(request.reservation_id):
            await abort(context, invalid("reservation_id", f"must match {RESERVATION_ID.pattern}"))
        if len(request.request_sha256) != 32:
            await abort(context, invalid("request_sha256", "must be 32 bytes"))
        if not 0 < request.time_left_ms <= (TIMEOUT_S_MAX + ROUNDING_S) * 1000:
            await abort(context, invalid("time_left_ms", f"must be 1 to {TIMEOUT_S_MAX * 1000}"))
        if len(request.exclude_workers) > EXCLUDED_WORKERS_MAX:
            await abort(context, invalid("exclude_workers", f"at most {EXCLUDED_WORKERS_MAX}"))

    def _answer(self, region: str, refused: peering_pb2.ReserveRefused) -> peering_pb2.ReserveResponse:
        self._metrics.asked_by_peer(region, Refusal(refused.reason).name.lower())
        return peering_pb2.ReserveResponse(refused=refused)
