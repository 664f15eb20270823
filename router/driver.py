"""Carries out what the policy decides for one request. It decides nothing.

`step` says what to do; the driver awaits it and reports how it went as the next event. What it adds is only what a pure
function cannot have: the slot, the connection, the clock, and the duty to give everything back. That duty:

* Every reservation asked for is given back unless a worker has accepted it (then the worker frees the slot when its job
  really ended) or it was refused. A cancelled `reserve` may have been carried out, so it is waited for and then released.
* However the request ends, its story says so.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from homeward.v1 import generation_pb2, outcome_pb2
from router.capacity.ledger import LedgerUnavailable
from router.capacity_board import CapacityBoard
from router.clock import Clock
from router.decision_record import DecisionRecord, Story
from router.dispatch import Dispatch, Run
from router.metrics import Metrics
from router.placement_targets import Ask, Granted, NotGranted, PlacementTarget
from router.policy.draws import draw, request_key
from router.policy.parameters import Parameters
from router.policy.state import Command, Event, State, arrival
from router.policy.step import step
from router.policy.vocabulary import CommandKind, EventKind, Failure, Outcome, Reason, Refusal
from router.status import Violation

_log = logging.getLogger(__name__)

CLOCKS_AGREE_US = 250_000
"""A worker may call the deadline this much earlier than we do: the grant states it by the wall clock."""

Emit = Callable[[generation_pb2.GenerateResponse], Awaitable[None]]


@dataclass(slots=True)
class Surroundings:
    """Everything outside the policy that a request touches."""

    clock: Clock
    board: CapacityBoard
    targets: Sequence[PlacementTarget]
    dispatch: Dispatch
    withdraw_retry: Callable[[Parameters], Awaitable[bool]]
    pace_retry: Callable[[], Awaitable[None]]
    metrics: Metrics
    record: DecisionRecord
    parameters: Parameters
    seed: int
    waiting: int = 0
    """Requests waiting for a slot in this router now."""
    loose_ends: set[asyncio.Task[Any]] = field(default_factory=set)
    """Releases under way; a drain waits for them."""

    def later(self, ending: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """See to it that `ending` (a release, say) happens, whatever becomes of the caller."""
        task = asyncio.create_task(ending)
        self.loose_ends.add(task)
        task.add_done_callback(self.loose_ends.discard)
        return task


@dataclass(slots=True)
class Ending:
    """How a request ended, and all that was measured."""

    outcome: Outcome
    reason: Reason
    attempts: int
    wait_us: int = 0
    start_delay_us: int = 0
    retry_after_us: int = 0
    served_region: int = -1
    granted: Granted | None = None
    run: Run | None = None
    work_began: bool = False
    why: str = ""
    violations: tuple[Violation, ...] = ()


class RequestLife:
    """One request, from arrival to its ending."""

    def __init__(
        self,
        around: Surroundings,
        request: generation_pb2.GenerateRequest,
        request_sha256: bytes,
        deadline_at_us: int,
        emit: Emit,
    ) -> None:
        self._around = around
        self._request = request
        self._sha256 = request_sha256
        self._emit = emit
        now_us = around.clock.now_us()
        self._arrived_at_us = now_us
        self._state: State = arrival(now_us, deadline_at_us)
        self._key = request_key(request.request_id)
        self._story: Story = around.record.begin(request.request_id, request.model, now_us)
        self._granted: Granted | None = None
        self._run = Run()
        self._start_delay_us = 0
        self._dispatched_at_us = 0
        self._failed_runs_us = 0
        self._work_began = False
        self._exclude: frozenset[tuple[int, str]] = frozenset()
        """Workers that failed this request, with their region: a name means one worker only within its region."""

    async def live(self) -> Ending:
        """Drive the request to its end. Cancelling the task ends it as CANCELLED, frees its slot, and re-raises."""
        event = Event(EventKind.ARRIVED.value)
        try:
            while True:
                command = self._decide(event)
                if command.kind in (CommandKind.FINISH, CommandKind.SHED):
                    return self._ending(command)
                try:
                    async with asyncio.timeout(self._time_left_us() / 1_000_000):
                        event = await self._carry_out(command)
                except TimeoutError:
                    event = Event(EventKind.DEADLINE.value)
        except asyncio.CancelledError:
            self._decide(Event(EventKind.CANCELLED.value))
            raise
        finally:
            self._give_back()

    def _time_left_us(self) -> int:
        return max(0, self._state.deadline_at_us - self._around.clock.now_us())

    def _decide(self, event: Event) -> Command:
        around = self._around
        now_us = around.clock.now_us()
        u = draw(around.seed, self._key, self._state.attempt, event.kind)
        view = around.board.view(self._request.model, now_us, around.waiting)
        self._state, command = step(self._state, event, now_us, u, around.parameters, view)
        age = view.age_us[command.region] if command.region >= 0 else -1
        around.record.note(self._story, event, command, self._state.attempt, now_us, age)
        around.metrics.decided(Reason(command.reason))
        return command

    async def _carry_out(self, command: Command) -> Event:
        if command.kind == CommandKind.RESERVE:
            return await self._reserve(command.region)
        if command.kind == CommandKind.DISPATCH:
            return await self._dispatch(command)
        if command.kind == CommandKind.WITHDRAW_BUDGET:
            return await self._withdraw_budget()
        assert command.kind == CommandKind.WAIT, command
        return await self._wait(command)

    async def _reserve(self, region: int) -> Event:
        around, model = self._around, self._request.model
        ask = Ask(
            reservation_id=f"{self._request.request_id}.{self._state.attempt}.{region}.{secrets.token_hex(4)}",
            request_id=self._request.request_id,
            model=model,
            request_sha256=self._sha256,
            time_left_us=self._time_left_us(),
            exclude_workers=frozenset(worker for its_region, worker in self._exclude if its_region == region),
        )
        target = around.targets[region]
        asking = asyncio.create_task(target.reserve(ask))
        try:
            answer = await asyncio.shield(asking)
        except asyncio.CancelledError:
            self._around.later(_reserve_then_release(asking, target, ask.reservation_id))
            raise
        name = around.board.topology.names[region]
        if isinstance(answer, NotGranted):
            if answer.maybe_claimed:
                # The id is ours, so the slot can be given back unseen.
                self._around.later(target.release(ask.reservation_id))
            around.metrics.refused(name, answer.refusal)
            if answer.refusal in (Refusal.FULL, Refusal.NOT_OFFERED) and not ask.exclude_workers:
                around.board.refused(region, model)
            return Event(
                EventKind.REFUSED.value, region, answer.refusal.value, eta_us=answer.eta_us, slots=answer.slots, busy=answer.busy
            )
        around.metrics.placed(name, around.board.topology.rings[around.board.home][region])
        around.board.granted(region, model, answer.slots, answer.busy)
        self._granted, self._run = answer, Run()
        return Event(
            EventKind.GRANTED.value, region, run_us=answer.service_us, slots=answer.slots, busy=answer.busy,
            waiting=answer.waiting, hold_us=answer.expires_in_us,
        )  # fmt: skip

    async def _dispatch(self, command: Command) -> Event:
        around, granted = self._around, self._granted
        assert granted is not None
        now_us = around.clock.now_us()
        delay_us = max(0, command.at_us - now_us)
        await self._emit(
            generation_pb2.GenerateResponse(
                placed=generation_pb2.Placed(
                    served_region=around.board.topology.names[command.region],
                    worker=granted.worker,
                    variant=granted.variant,
                    variant_digest=granted.variant_digest,
                    attempts=self._state.attempt,
                    start_delay_ms=delay_us // 1000,
                )
            )
        )
        if delay_us > 0:
            around.metrics.start_delay_seconds.observe(delay_us / 1e6)
            await around.clock.sleep_until(command.at_us)
        self._start_delay_us = delay_us
        self._dispatched_at_us = around.clock.now_us()
        run = self._run
        await around.dispatch(command.region, granted, self._request, self._time_left_us(), self._progress, run)
        self._work_began = self._work_began or run.started
        if run.deadline_passed and self._time_left_us() > CLOCKS_AGREE_US:
            # The worker's clock is wrong, or it gave up early: the request itself has time left.
            run.failure = Failure.WORKER_LOST
        elif run.deadline_passed:
            return Event(EventKind.DEADLINE.value)
        if run.failure is not Failure.NONE:
            around.metrics.worker_failed(run.failure.name)
            _log.info("%s failed on %s: %s", self._request.request_id, granted.worker, run.why)
            self._failed_runs_us += around.clock.now_us() - now_us
            self._exclude |= {(command.region, granted.worker)}
            self._give_back()
            return Event(EventKind.FAILED.value, command.region, failure=run.failure.value)
        return Event(EventKind.DONE.value, command.region)

    async def _progress(self, progress: generation_pb2.Progress) -> None:
        await self._emit(generation_pb2.GenerateResponse(progress=progress))

    async def _withdraw_budget(self) -> Event:
        try:
            allowed = await self._around.withdraw_retry(self._around.parameters)
        except LedgerUnavailable:
            # Nobody can say that there is a token: a dead ledger must not turn into free retries.
            return Event(EventKind.BUDGET_DENIED.value, refusal=Refusal.LEDGER_DOWN.value)
        return Event((EventKind.BUDGET_GRANTED if allowed else EventKind.BUDGET_DENIED).value)

    async def _wait(self, command: Command) -> Event:
        around = self._around
        wait_us = max(0, command.at_us - around.clock.now_us())
        around.waiting += 1
        around.metrics.waiting.set(around.waiting)
        try:
            await self._emit(
                generation_pb2.GenerateResponse(
                    waiting=generation_pb2.Waiting(
                        attempts=self._state.attempt, wait_ms=wait_us // 1000, reason=outcome_pb2.Reason.Name(command.reason)
                    )
                )
            )
            await around.clock.sleep_until(command.at_us)
            await around.pace_retry()
        finally:
            around.waiting -= 1
            around.metrics.waiting.set(around.waiting)
        # A worker that failed this request earlier may have recovered, and may be the only one there is.
        self._exclude = frozenset()
        return Event(EventKind.WOKEN.value)

    def _give_back(self) -> None:
        """Release the slot, unless the worker took it over: then it frees the slot when the job has really ended."""
        granted, self._granted = self._granted, None
        if granted is None or (self._run.started and self._run.result is None):
            return
        region = self._state.region
        succeeded_elsewhere = self._run.result is not None and region != self._around.board.home
        if not succeeded_elsewhere:
            self._around.later(self._around.targets[region].release(granted.reservation_id))

    def _ending(self, command: Command) -> Ending:
        now_us = self._around.clock.now_us()
        began_at = self._dispatched_at_us or now_us
        return Ending(
            outcome=Outcome(command.outcome),
            reason=Reason(command.reason),
            attempts=self._state.attempt,
            wait_us=max(0, began_at - self._start_delay_us - self._failed_runs_us - self._arrived_at_us),
            start_delay_us=self._start_delay_us,
            retry_after_us=max(0, command.at_us - now_us) if command.kind == CommandKind.SHED else 0,
            served_region=self._state.region if command.outcome == Outcome.OK else -1,
            granted=self._granted,
            run=self._run,
            work_began=self._work_began or self._run.started,
            why=self._run.why,
            violations=self._run.violations,
        )


async def _reserve_then_release(
    asking: "asyncio.Task[Granted | NotGranted]", target: PlacementTarget, reservation_id: str
) -> None:
    await asyncio.wait([asking])
    await target.release(reservation_id)
