"""Generation: the service that gateways call."""

import asyncio
import logging

from homeward.request_digest import request_sha256
from homeward.v1 import generation_pb2, generation_pb2_grpc, outcome_pb2
from router.driver import Ending, RequestLife, Surroundings
from router.policy.vocabulary import Outcome
from router.request_check import check_deadline, check_request
from router.request_claims import RequestClaims
from router.status import MESSAGES, Context, RequestError, Violation, abort, jittered

REQUESTS_MAX = 10_000
"""Requests in one router at once, running and waiting; the next is refused with WAITING_FULL."""
ANSWER_MARGIN_US = 100_000
"""The router ends a request this long before the caller's own deadline (at most a twentieth of its time), so that the
caller gets the whole answer instead of a bare DEADLINE_EXCEEDED of its own gRPC library."""
DRAINING_RETRY_US = 1_000_000
CLAIM_MARGIN_US = 5_000_000
"""A request id whose router died may run again this long after its deadline: its last job has certainly been stopped."""

_log = logging.getLogger(__name__)


def _checked_digest(request: generation_pb2.GenerateRequest, home_region: str, known: tuple[str, ...]) -> bytes:
    check_request(request, home_region, known)
    return request_sha256(request)


class GenerationServicer(generation_pb2_grpc.GenerationServicer):
    """Serves requests of the home region."""

    def __init__(self, around: Surroundings, claims: RequestClaims) -> None:
        self._around = around
        self._claims = claims
        self.draining = False
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def idle(self) -> None:
        """Return when no request is left and everything was given back."""
        await self._idle.wait()
        while self._around.loose_ends:
            await asyncio.wait(set(self._around.loose_ends))

    async def Generate(self, request: generation_pb2.GenerateRequest, context: Context) -> None:  # noqa: N802
        """One request, streamed."""
        metrics, clock = self._around.metrics, self._around.clock
        began_us = clock.now_us()
        refused: RequestError | None = None
        outcome = Outcome.CANCELLED
        self._running += 1
        self._idle.clear()
        metrics.running.set(self._running)
        try:
            await self._serve(request, context, began_us)
            outcome = Outcome.OK
        except RequestError as error:
            refused, outcome = error, error.outcome
        except Exception:
            # A defect: the caller gets one line and the id, the log the traceback.
            _log.exception("request %r broke", request.request_id[:64])
            refused, outcome = RequestError(Outcome.INTERNAL, MESSAGES[Outcome.INTERNAL]), Outcome.INTERNAL
        finally:
            self._running -= 1
            metrics.running.set(self._running)
            if self._running == 0:
                self._idle.set()
            metrics.request(self._model_label(request.model), outcome).inc()
            metrics.total_seconds.observe((clock.now_us() - began_us) / 1e6)
            metrics.explained.set(len(self._around.record))
        if refused is not None:
            refused.request_id = request.request_id[:64]
            await abort(context, refused)

    def _known_models(self) -> list[str]:
        pools = [pool for figures in self._around.board.regions for pool in figures.pools]
        return sorted({model for pool in pools for model in pool.models})

    def _model_label(self, model: str) -> str:
        return model if model in self._known_models() else "other"

    async def _serve(self, request: generation_pb2.GenerateRequest, context: Context, began_us: int) -> None:
        if self.draining:
            raise RequestError(Outcome.DRAINING, MESSAGES[Outcome.DRAINING], retry_after_us=jittered(DRAINING_RETRY_US))
        if self._running > REQUESTS_MAX:
            later_us = jittered(self._around.parameters.backoff_cap_us)
            raise RequestError(Outcome.WAITING_FULL, MESSAGES[Outcome.WAITING_FULL], retry_after_us=later_us)
        time_left_us = int(check_deadline(context.time_remaining()) * 1_000_000)
        board = self._around.board
        names = board.topology.names
        # Off the event loop: megabytes are looked through and hashed.
        digest = await asyncio.to_thread(_checked_digest, request, names[board.home], names)
        await self._claim(request.request_id, digest.hex(), time_left_us + CLAIM_MARGIN_US)
        succeeded = False
        try:
            deadline_at_us = began_us + time_left_us - min(ANSWER_MARGIN_US, time_left_us // 20)
            ending = await RequestLife(self._around, request, digest, deadline_at_us, context.write).live()
            succeeded = ending.outcome is Outcome.OK
        finally:
            settled = self._around.later(self._claims.settle(request.request_id, digest.hex(), succeeded=succeeded))
        if not succeeded:
            # The caller may try the same id again the moment it hears of the failure.
            await asyncio.shield(settled)
            raise self._error(ending, request.model)
        await self._deliver(request, ending, began_us, context)

    async def _claim(self, request_id: str, digest: str, running_us: int) -> None:
        """Take the id. A caller that goes away meanwhile may have taken it all the same: then it is let go of."""
        claiming = asyncio.create_task(self._claims.claim(request_id, digest, running_us, self._around.parameters))
        try:
            await asyncio.shield(claiming)
        except asyncio.CancelledError:
            self._around.later(self._unclaim(claiming, request_id, digest))
            raise

    async def _unclaim(self, claiming: "asyncio.Task[None]", request_id: str, digest: str) -> None:
        await asyncio.wait([claiming])
        if claiming.exception() is None:
            await self._claims.settle(request_id, digest, succeeded=False)

    def _error(self, ending: Ending, model: str) -> RequestError:
        message = MESSAGES.get(ending.outcome, ending.outcome.name)
        violations = ending.violations
        if ending.outcome is Outcome.INVALID:
            message = ending.why
        elif ending.outcome is Outcome.WORKER_FAILED:
            message = f"{message}; the last: {ending.why}"
        elif ending.outcome is Outcome.MODEL_UNAVAILABLE:
            known = self._known_models()
            if model not in known:
                message = f"no worker serves model {model!r}; the fleet serves {', '.join(known) or 'none at the moment'}"
                violations = (Violation("model", message),)
        return RequestError(
            ending.outcome,
            message,
            retry_after_us=ending.retry_after_us,
            violations=violations,
            reason="INPUT_REJECTED" if ending.outcome is Outcome.INVALID else "",
            work_began=ending.work_began,
            metadata={"attempts": str(ending.attempts), "reason": ending.reason.name},
        )

    async def _deliver(
        self, request: generation_pb2.GenerateRequest, ending: Ending, began_us: int, context: Context
    ) -> None:
        around, granted, run = self._around, ending.granted, ending.run
        assert granted is not None
        assert run is not None
        assert run.result is not None
        for chunk in run.chunks:
            await context.write(generation_pb2.GenerateResponse(output_chunk=generation_pb2.OutputChunk(data=chunk)))
        around.metrics.wait_seconds.observe(ending.wait_us / 1e6)
        around.metrics.run_seconds.observe(run.result.run_ms / 1e3)
        names = around.board.topology.names
        result = generation_pb2.GenerateResult(
            request_id=request.request_id,
            model=request.model,
            variant=granted.variant,
            variant_digest=granted.variant_digest,
            home_region=names[around.board.home],
            served_region=names[ending.served_region],
            worker=granted.worker,
            attempts=ending.attempts,
            wait_ms=ending.wait_us // 1000,
            start_delay_ms=ending.start_delay_us // 1000,
            run_ms=run.result.run_ms,
            total_ms=(around.clock.now_us() - began_us) // 1000,
            outcome=outcome_pb2.OUTCOME_OK,
            output=run.result.output,
        )
        await context.write(generation_pb2.GenerateResponse(result=result))


