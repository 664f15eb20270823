"""A world for the driver without a network: regions that grant slots, workers that run jobs, and the books about both.

Every act takes virtual time, and takes effect in the middle of it, as it does on a network: a call that is cancelled half-way
may have been carried out. `Books.check` says what must hold when everything has ended.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from homeward.v1 import generation_pb2, operations_pb2, peering_pb2, work_pb2
from router.capacity.ledger import LedgerUnavailable
from router.capacity_board import CapacityBoard
from router.decision_record import DecisionRecord
from router.dispatch import Run
from router.driver import Ending, RequestLife, Surroundings
from router.metrics import Metrics
from router.placement_targets import Ask, Granted, NotGranted
from router.policy.parameters import Parameters, parameters
from router.policy.vocabulary import Failure, Refusal
from router.status import Violation
from router.topology import Topology
from tests.router.virtual_time import VirtualClock

MODEL = "animate"
SERVICE_US = 20_000
"""What the regions say that a run takes: much too little, so that deadlines can pass in every phase."""
RUN_US = 400_000
"""What a run takes."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a region answers to one ask."""

    refusal: Refusal = Refusal.NONE
    """NONE: a slot."""
    takes_us: int = 20_000
    eta_us: int = 0
    worker: str = "worker-1"
    slots: int = 4
    busy: int = 1
    lost: bool = False
    """The slot is claimed and the answer never arrives."""


@dataclass(frozen=True, slots=True)
class Job:
    """How one run goes on its worker."""

    failure: Failure = Failure.NONE
    connects_us: int = 10_000
    """Until the worker accepts (or refuses) the grant."""
    runs_us: int = RUN_US
    """From there to the end."""
    steps: int = 2
    says_deadline: bool = False


@dataclass(slots=True)
class Books:
    """Every reservation that was ever granted, and what became of it."""

    granted: dict[str, int] = field(default_factory=dict)
    """By id: the region."""
    released: dict[str, int] = field(default_factory=dict)
    """By id: how often the router gave it back."""
    taken_over: set[str] = field(default_factory=set)
    """The router heard that a worker runs these; the worker frees the slot."""
    finished: set[str] = field(default_factory=set)
    """Their jobs ended with a result."""
    foreign_releases: list[str] = field(default_factory=list)
    """Ids given back to a region that had never been asked for them."""
    asks: list[Ask] = field(default_factory=list)

    def check(self) -> None:
        """Nothing is held for ever, and nothing that a worker still owns was given away."""
        for reservation, region in self.granted.items():
            freed = reservation in self.released or reservation in self.taken_over
            assert freed, f"{reservation} in region {region} leaks"
            if reservation in self.taken_over and reservation not in self.finished:
                assert reservation not in self.released, f"{reservation} was given away under a running job"
        assert not self.foreign_releases, f"released where they were not asked for: {self.foreign_releases}"
        assert max(self.released.values(), default=1) == 1, f"released more than once: {self.released}"


class FakeRegion:
    """A region that answers from a list; when it is used up, the last answer repeats."""

    def __init__(self, index: int, books: Books, answers: Sequence[Answer], release_us: int = 5_000) -> None:
        self._index, self._books, self._answers, self._release_us = index, books, list(answers), release_us
        self._asked: set[str] = set()

    async def reserve(self, ask: Ask) -> Granted | NotGranted:
        self._books.asks.append(ask)
        self._asked.add(ask.reservation_id)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        await asyncio.sleep(answer.takes_us / 2e6)
        if answer.refusal is Refusal.NONE and answer.worker not in ask.exclude_workers:
            self._books.granted[ask.reservation_id] = self._index
        await asyncio.sleep(answer.takes_us / 2e6)
        if answer.lost:
            return NotGranted(Refusal.UNREACHABLE, maybe_claimed=True)
        if answer.refusal is not Refusal.NONE:
            return NotGranted(answer.refusal, answer.eta_us, answer.slots, answer.busy)
        if answer.worker in ask.exclude_workers:
            return NotGranted(Refusal.FULL, 0, answer.slots, answer.busy)
        return Granted(
            reservation_id=ask.reservation_id,
            grant=work_pb2.Grant(),
            worker=answer.worker,
            address="127.0.0.1:1",
            variant="animate-v1",
            variant_digest="sha256:" + "0" * 64,
            service_us=SERVICE_US,
            slots=answer.slots,
            busy=answer.busy,
            waiting=0,
        )

    async def release(self, reservation_id: str) -> None:
        if reservation_id not in self._asked:
            self._books.foreign_releases.append(reservation_id)
        await asyncio.sleep(self._release_us / 1e6)
        self._books.released[reservation_id] = self._books.released.get(reservation_id, 0) + 1


class FakeWorkers:
    """Dispatch to workers whose jobs go as a list says; when it is used up, the last one repeats."""

    def __init__(self, books: Books, jobs: Sequence[Job]) -> None:
        self._books, self._jobs = books, list(jobs)
        self.workers: list[str] = []

    async def __call__(
        self,
        region: int,
        granted: Granted,
        request: generation_pb2.GenerateRequest,
        time_left_us: int,
        on_progress: Callable[[generation_pb2.Progress], Awaitable[None]],
        run: Run,
    ) -> None:
        job = self._jobs.pop(0) if len(self._jobs) > 1 else self._jobs[0]
        self.workers.append(granted.worker)
        await asyncio.sleep(job.connects_us / 1e6)
        if job.failure is Failure.WORKER_REFUSED:
            run.failure, run.why = job.failure, "FAILED_PRECONDITION: not this grant"
            return
        if job.failure is Failure.INPUT_REJECTED:
            run.failure, run.why = job.failure, "the photo shows nothing"
            run.violations = (Violation("photo", "the photo shows nothing"),)
            return
        run.started = True
        self._books.taken_over.add(granted.reservation_id)
        for step in range(1, job.steps + 1):
            await asyncio.sleep(job.runs_us / 1e6 / job.steps)
            await on_progress(generation_pb2.Progress(stage="denoise", step=step, steps=job.steps))
        if job.says_deadline:
            run.deadline_passed = True
        elif job.failure is not Failure.NONE:
            run.failure, run.why = job.failure, "UNAVAILABLE: the worker died"
        else:
            run.chunks.append(b"picture")
            run.result = work_pb2.RunResult(run_ms=job.runs_us // 1000)
            self._books.finished.add(granted.reservation_id)


def topology_of(regions: int) -> Topology:
    """Regions r0 (home), r1 in ring 1, r2 in ring 2, the others in ring 3."""
    return Topology(
        names=tuple(f"r{index}" for index in range(regions)),
        routers=("",) * regions,
        rings=tuple(tuple(min(3, abs(home - other)) for other in range(regions)) for home in range(regions)),
        rtt_us=tuple(tuple(20_000 * abs(home - other) for other in range(regions)) for home in range(regions)),
    )


class World:
    """All that a request touches. Build it inside the loop."""

    def __init__(
        self,
        *answers: Sequence[Answer],
        jobs: Sequence[Job] = (Job(),),
        overrides: dict[str, Any] | None = None,
        budget: Sequence[bool | LedgerUnavailable] = (True,),
        budget_us: int = 8_000,
        pace_us: int = 3_000,
        emit_us: int = 0,
        seed: int = 0,
    ) -> None:
        """`answers`: one list a region, home first."""
        self.books = Books()
        self.clock = VirtualClock()
        topology = topology_of(len(answers))
        self.parameters: Parameters = parameters(overrides or {})
        self.board = CapacityBoard(topology, 0)
        for region, name in enumerate(topology.names):
            pool = peering_pb2.PoolCapacity(
                pool="p", models=[MODEL], slots=4, busy=1, offered=3, service_ms=SERVICE_US // 1000, workers=1
            )
            self.board.post(region, peering_pb2.WatchCapacityResponse(region=name, pools=[pool]), self.clock.now_us())
        self.workers = FakeWorkers(self.books, jobs)
        self._budget, self._budget_us, self._pace_us, self._emit_us = list(budget), budget_us, pace_us, emit_us
        self.paced = 0
        self.sent: list[generation_pb2.GenerateResponse] = []
        self.sent_at_us: list[int] = []
        self.around = Surroundings(
            clock=self.clock,
            board=self.board,
            targets=[FakeRegion(index, self.books, each) for index, each in enumerate(answers)],
            dispatch=self.workers,
            withdraw_retry=self._withdraw,
            pace_retry=self._pace,
            metrics=Metrics("r0"),
            record=DecisionRecord(topology.names),
            parameters=self.parameters,
            seed=seed,
        )

    async def _withdraw(self, _parameters: Parameters) -> bool:
        await asyncio.sleep(self._budget_us / 1e6)
        answer = self._budget.pop(0) if len(self._budget) > 1 else self._budget[0]
        if isinstance(answer, LedgerUnavailable):
            raise answer
        return answer

    async def _pace(self) -> None:
        self.paced += 1
        await asyncio.sleep(self._pace_us / 1e6)

    async def _emit(self, message: generation_pb2.GenerateResponse) -> None:
        self.sent.append(message)
        self.sent_at_us.append(self.clock.now_us())
        await asyncio.sleep(self._emit_us / 1e6)

    async def live_unsettled(self, time_left_us: int = 60_000_000, request_id: str = "request-1") -> Ending:
        """Live one request to its end; its loose ends may go on."""
        request = generation_pb2.GenerateRequest(request_id=request_id, model=MODEL)
        return await RequestLife(self.around, request, b"\0" * 32, self.clock.now_us() + time_left_us, self._emit).live()

    async def live(self, time_left_us: int = 60_000_000, request_id: str = "request-1") -> Ending:
        """Live one request to its end, and wait for its loose ends."""
        ending = await self.live_unsettled(time_left_us, request_id)
        await self.settle()
        return ending

    async def settle(self) -> None:
        """Wait for the releases under way."""
        while self.around.loose_ends:
            await asyncio.wait(set(self.around.loose_ends))

    def decisions(self, request_id: str = "request-1") -> list[operations_pb2.Decision]:
        """The request's story."""
        story = self.around.record.find(request_id)
        assert story is not None
        return story.decisions

    def commands(self, request_id: str = "request-1") -> list[str]:
        """What was decided, in order."""
        return [decision.command for decision in self.decisions(request_id)]

    def metric(self, name: str, **labels: str) -> float:
        """Value of a sample; 0 if it never appeared."""
        return self.around.metrics.registry.get_sample_value(name, labels) or 0.0
