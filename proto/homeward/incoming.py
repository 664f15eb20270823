"""What arrives at the SDK: the messages of one generation, turned into events. No I/O, so both clients share it.

Theory of operation: the output comes in pieces before the result that describes it. `Assembly` keeps the pieces and checks
them when the result says what they should be. A client hands every message to `receive`, yields the event if there is one,
and calls `finish` when the stream ended well. `Finished` is only handed out there, so that a caller who stops reading at the
result does not cancel a call that the router is just ending.
"""

import hashlib

from homeward.errors import InternalError, OutputCorrupted
from homeward.events import Event, Finished, Placed, Progress, Waiting
from homeward.outcomes import Outcome, wire_name
from homeward.v1 import generation_pb2, outcome_pb2

OUTPUT_BYTES_MAX = 64 * 1024 * 1024
"""Bound of what one call may make the SDK hold: what routers and workers let through. Larger output never gets this far."""


class Assembly:
    """One generation as it arrives."""

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.work_began: bool | None = None
        """True once a worker reported a step; until then nobody here can know."""
        self._pieces: list[bytes] = []
        self._size_bytes = 0
        self._finished: Finished | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the verified output is here, whatever the stream does next."""
        return self._finished is not None

    def receive(self, message: generation_pb2.GenerateResponse) -> Event | None:
        """Take one message. Returns its event; None for pieces, the result, and events of a newer router.

        Raises `OutputCorrupted` when the output is not what the result says, or exceeds `OUTPUT_BYTES_MAX`.
        """
        match message.WhichOneof("event"):
            case "waiting":
                waiting = message.waiting
                reason = wire_name(outcome_pb2.Reason, waiting.reason, "REASON_")
                return Waiting(waiting.attempts, waiting.wait_ms, reason)
            case "placed":
                placed = message.placed
                return Placed(
                    served_region=placed.served_region,
                    worker=placed.worker,
                    variant=placed.variant,
                    variant_digest=placed.variant_digest,
                    attempts=placed.attempts,
                    start_delay_ms=placed.start_delay_ms,
                )
            case "progress":
                self.work_began = True
                return Progress(message.progress.stage, message.progress.step, message.progress.steps)
            case "output_chunk":
                self._keep(message.output_chunk.data)
            case "result":
                self.work_began = True
                self._finished = self._verify(message.result)
        return None

    def finish(self) -> Finished:
        """Return the result after the stream ended well. Raises `InternalError` when there was none."""
        if self._finished is None:
            raise InternalError(
                "the router ended the call without a result", request_id=self.request_id, work_began=self.work_began
            )
        return self._finished

    def _keep(self, piece: bytes) -> None:
        self._size_bytes += len(piece)
        if self._size_bytes > OUTPUT_BYTES_MAX:
            raise self._corrupted(f"the output exceeds {OUTPUT_BYTES_MAX} bytes")
        self._pieces.append(piece)

    def _verify(self, result: generation_pb2.GenerateResult) -> Finished:
        output = b"".join(self._pieces)
        self._pieces.clear()
        facts = result.output
        if len(output) != facts.size_bytes:
            raise self._corrupted(f"{len(output)} bytes of output arrived, but the worker made {facts.size_bytes}")
        digest = hashlib.sha256(output).hexdigest()
        if digest != facts.sha256:
            raise self._corrupted(f"the output has SHA-256 {digest}, but the worker made {facts.sha256}")
        return Finished(
            output=output,
            media_type=facts.media_type,
            sha256=facts.sha256,
            width_px=facts.width_px,
            height_px=facts.height_px,
            frames=facts.frames,
            duration_ms=facts.duration_ms,
            motion=facts.motion,
            request_id=result.request_id,
            model=result.model,
            variant=result.variant,
            variant_digest=result.variant_digest,
            home_region=result.home_region,
            served_region=result.served_region,
            worker=result.worker,
            attempts=result.attempts,
            wait_ms=result.wait_ms,
            start_delay_ms=result.start_delay_ms,
            run_ms=result.run_ms,
            total_ms=result.total_ms,
            outcome=Outcome.of_number(result.outcome),
        )

    def _corrupted(self, what: str) -> OutputCorrupted:
        return OutputCorrupted(what, request_id=self.request_id, work_began=True)
