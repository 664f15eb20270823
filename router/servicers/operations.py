"""Operations: what operators ask."""

import grpc

from homeward.v1 import operations_pb2, operations_pb2_grpc, outcome_pb2
from router.capacity.ledger import LedgerUnavailable
from router.capacity.ledger_guard import LedgerGuard
from router.capacity_board import CapacityBoard
from router.clock import Clock
from router.decision_record import DecisionRecord
from router.peering.snapshots import HomeSnapshots
from router.policy.parameters import Parameters
from router.policy.vocabulary import Outcome
from router.request_check import REQUEST_ID
from router.status import LEDGER_RETRY_US, Context, RequestError, abort, invalid, jittered


class OperationsServicer(operations_pb2_grpc.OperationsServicer):
    """Serves views of this router's world."""

    def __init__(
        self,
        board: CapacityBoard,
        snapshots: HomeSnapshots,
        guard: LedgerGuard,
        record: DecisionRecord,
        clock: Clock,
        parameters: Parameters,
    ) -> None:
        self._board, self._snapshots, self._guard = board, snapshots, guard
        self._record, self._clock, self._parameters = record, clock, parameters

    async def ListRegions(  # noqa: N802
        self, _request: operations_pb2.ListRegionsRequest, _context: Context
    ) -> operations_pb2.ListRegionsResponse:
        """Home first, then by ring and round-trip time."""
        await self._snapshots.read()
        topology, home = self._board.topology, self._board.home
        order = sorted(range(len(topology.names)), key=lambda each: (topology.rings[home][each], topology.rtt_us[home][each]))
        return operations_pb2.ListRegionsResponse(
            home_region=topology.names[home], regions=[self._region(region) for region in order]
        )

    def _region(self, region: int) -> operations_pb2.RegionView:
        topology, home = self._board.topology, self._board.home
        figures = self._board.regions[region]
        age_us = self._board.age_us(region, self._clock.now_us())
        trouble = figures.trouble
        if figures.ledger_down:
            trouble = "its slot ledger cannot be reached"
        elif age_us < 0:
            trouble = trouble or "nothing was ever heard from it"
        elif age_us > self._parameters.snapshot_age_max_us:
            trouble = trouble or "its snapshot is too old"
        usable = not figures.ledger_down and 0 <= age_us <= self._parameters.snapshot_age_max_us
        return operations_pb2.RegionView(
            region=topology.names[region],
            ring=topology.rings[home][region],
            rtt_ms=topology.rtt_us[home][region] / 1000,
            pools=figures.pools,
            waiting=figures.waiting,
            snapshot_age_ms=-1 if age_us < 0 else age_us // 1000,
            usable=usable,
            trouble=trouble,
        )

    async def ListWorkers(  # noqa: N802
        self, _request: operations_pb2.ListWorkersRequest, context: Context
    ) -> operations_pb2.ListWorkersResponse:
        """From the ledger, by name."""
        try:
            workers = await self._guard.act("workers", lambda ledger: ledger.workers())
        except LedgerUnavailable:
            down = "the region's slot ledger cannot be reached"
            await abort(context, RequestError(Outcome.LEDGER_DOWN, down, jittered(LEDGER_RETRY_US)))
            raise AssertionError("abort raises") from None
        return operations_pb2.ListWorkersResponse(
            region=self._board.topology.names[self._board.home],
            workers=[
                operations_pb2.WorkerView(
                    worker=worker.worker,
                    incarnation=worker.incarnation,
                    address=worker.address,
                    state=worker.state,
                    slots=worker.slots,
                    busy=worker.busy,
                    variants=[offer.variant for offer in worker.variants],
                    service_ms=worker.service_us // 1000,
                    lease_left_ms=worker.lease_left_us // 1000,
                )
                for worker in workers
            ],
        )

    async def Explain(  # noqa: N802
        self, request: operations_pb2.ExplainRequest, context: Context
    ) -> operations_pb2.ExplainResponse:
        """Every decision of one request, as far as this router remembers it."""
        if not REQUEST_ID.fullmatch(request.request_id):
            await abort(context, invalid("request_id", "must be 8 to 64 characters of A-Z a-z 0-9 . _ -"))
        story = self._record.find(request.request_id)
        if story is None:
            unknown = f"this router has no record of request {request.request_id!r}"
            await abort(
                context, RequestError(Outcome.INVALID, unknown, reason="REQUEST_UNKNOWN", code=grpc.StatusCode.NOT_FOUND)
            )
            raise AssertionError("abort raises")
        return operations_pb2.ExplainResponse(
            request_id=story.request_id,
            home_region=self._board.topology.names[self._board.home],
            model=story.model,
            decisions=story.decisions,
            outcome=outcome_pb2.Outcome.Name(story.outcome),
            arrived_unix_us=story.arrived_unix_us,
            served_region=story.served_region,
        )


