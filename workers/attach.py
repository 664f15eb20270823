"""The Attach stream: how a worker is known to its region.

The worker calls a router, registers, and then says at the router's pace what runs on its slots. The stream is its claim to be
alive. When it breaks, the worker calls the next router, after a random wait that grows (so that a thousand workers do not
return at the same moment), and registers with what it is running: jobs never notice. Three endings are final, because calling
again would change nothing: the router does not accept who we are, or what we say, or a newer process has taken our name.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import grpc

from homeward.v1 import fleet_pb2, fleet_pb2_grpc
from workers.finished import FinishedJobs
from workers.refusals import reason_of
from workers.transport import CHANNEL_OPTIONS

log = logging.getLogger(__name__)

BACKOFF_BASE_S = 0.1
BACKOFF_CAP_S = 3.0
"""Below the default lease (4 s): a worker that lost only its stream is usually back before its lease ends."""

ATTACH_S_MAX = 3.0
"""A router that takes longer to connect and register is passed over."""

CLOSE_S_MAX = 1.0
HEARTBEAT_MS_MIN = 20
HEARTBEAT_MS_MAX = 60_000
LEASE_MS_MAX = 600_000
REASON_SUPERSEDED = "SUPERSEDED"
_FINAL_CODES = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INVALID_ARGUMENT)

Stream = grpc.aio.StreamStreamCall[fleet_pb2.AttachRequest, fleet_pb2.AttachResponse]


class WorkerRejected(Exception):
    """No router will take this worker as it is. The message is one line for its operator."""


class _StreamLost(Exception):
    """The stream ended; another may live."""


class Registrant(Protocol):
    """What the stream asks of the worker."""

    def registration(self) -> fleet_pb2.RegisterWorker:
        """Return what the worker offers and runs now."""
        ...

    def heartbeat(self) -> fleet_pb2.Heartbeat:
        """Return the truth about the slots now."""
        ...

    def attached(self, attached: fleet_pb2.Attached) -> None:
        """A router has registered the worker."""
        ...

    def epoch_seen(self, epoch: int) -> None:
        """A heartbeat was answered."""
        ...


def backoff_s(failures: int, u: float) -> float:
    """Return the wait before the next attempt: `u * min(cap, base * 2**(failures - 1))`; `u` in [0, 1), `failures` from 1."""
    doublings = min(failures - 1, 16)
    return u * min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0**doublings)


class FleetLink:
    """Keeps a worker attached to one of its region's routers."""

    def __init__(
        self, routers: Sequence[str], registrant: Registrant, random_unit: Callable[[], float] = random.random
    ) -> None:
        """`routers` are tried in turn."""
        assert routers
        self._routers = routers
        self._registrant = registrant
        self._random_unit = random_unit
        self._finished = FinishedJobs()
        self._draining = False
        self._drain_said = False
        self._drain_acknowledged = asyncio.Event()
        self._closing = asyncio.Event()
        self._wake = asyncio.Event()
        self._confirmed = False

    def job_finished(self, reservation_id: str) -> None:
        """Tell the router that a reservation has ended, now or on the next stream."""
        self._finished.add(reservation_id)
        self._wake.set()

    async def drain(self) -> None:
        """Ask the router for no more jobs; return when it has acknowledged."""
        self._draining = True
        self._wake.set()
        await self._drain_acknowledged.wait()

    def close(self) -> None:
        """Say what is still to be said, then end the stream; `run` returns soon after."""
        self._closing.set()
        self._wake.set()

    async def run(self) -> None:
        """Stay attached until `close`. Raises WorkerRejected when no router will have us."""
        failures = 0
        turn = 0
        while not self._closing.is_set():
            router = self._routers[turn % len(self._routers)]
            try:
                await self._attach_to(router)
            except _StreamLost as lost:
                if self._closing.is_set():
                    return
                failures = 1 if self._confirmed else failures + 1
                turn += 1
                wait_s = backoff_s(failures, self._random_unit())
                level = logging.WARNING if _worth_a_line(failures) else logging.DEBUG
                log.log(level, "not attached: router %s: %s; attempt %d in %.2f s", router, lost, failures + 1, wait_s)
                await _wait_at_most(self._closing, wait_s)

    async def _attach_to(self, router: str) -> None:
        """Live through one stream. Returns after `close`; raises _StreamLost or WorkerRejected."""
        self._confirmed = False
        async with grpc.aio.insecure_channel(router, options=CHANNEL_OPTIONS) as channel:
            stream: Stream = fleet_pb2_grpc.FleetStub(channel).Attach()
            try:
                attached = await self._register(stream)
                log.info("attached to router %s, ledger epoch %d", router, attached.epoch)
                await self._converse(stream, attached)
            except grpc.aio.AioRpcError as error:
                raise _translate(error) from None
            finally:
                stream.cancel()

    async def _register(self, stream: Stream) -> fleet_pb2.Attached:
        self._drain_said = False
        self._finished.stream_began()
        try:
            async with asyncio.timeout(ATTACH_S_MAX):
                await _write(stream, fleet_pb2.AttachRequest(register=self._registrant.registration()))
                response = await _read(stream)
        except TimeoutError:
            raise _StreamLost("no answer") from None
        if response.WhichOneof("message") != "attached":
            raise _StreamLost("it did not answer the registration")
        self._registrant.attached(response.attached)
        return response.attached

    async def _converse(self, stream: Stream, attached: fleet_pb2.Attached) -> None:
        """Speak and listen until either ends."""
        lease_ms = min(max(attached.lease_ms, HEARTBEAT_MS_MIN), LEASE_MS_MAX)
        heartbeat_ms = min(max(attached.heartbeat_ms, HEARTBEAT_MS_MIN), HEARTBEAT_MS_MAX)
        listener = asyncio.create_task(self._listen(stream, lease_ms / 1e3))
        speaker = asyncio.create_task(self._speak(stream, heartbeat_ms / 1e3))
        try:
            await asyncio.wait({listener, speaker}, return_when=asyncio.FIRST_COMPLETED)
            if not listener.done():
                # Either we closed, or the stream broke while writing: its status comes by reading.
                await asyncio.wait({listener}, timeout=CLOSE_S_MAX)
            if not self._closing.is_set():
                for task in (listener, speaker):
                    if task.done():
                        task.result()
        finally:
            listener.cancel()
            speaker.cancel()
            await asyncio.gather(listener, speaker, return_exceptions=True)

    async def _listen(self, stream: Stream, silence_s_max: float) -> None:
        """Hear the router out. A silent one is lost: our lease there has ended, or will before it speaks again."""
        while True:
            try:
                async with asyncio.timeout(silence_s_max):
                    response = await _read(stream)
            except TimeoutError:
                raise _StreamLost(f"silent for {silence_s_max:.1f} s") from None
            match response.WhichOneof("message"):
                case "heartbeat_ack":
                    self._confirmed = True
                    self._finished.heartbeat_answered()
                    self._registrant.epoch_seen(response.heartbeat_ack.epoch)
                case "drain_ack":
                    self._drain_acknowledged.set()
                case "attached":
                    self._registrant.attached(response.attached)
                case _:
                    log.debug("the router said something newer than this worker")

    async def _speak(self, stream: Stream, heartbeat_s: float) -> None:
        """Send what happened as it happens, and a heartbeat at every interval. Returns after `close`."""
        loop = asyncio.get_running_loop()
        heartbeat_at_s = loop.time() + heartbeat_s
        while True:
            self._wake.clear()
            while (reservation_id := self._finished.take()) is not None:
                finished = fleet_pb2.JobFinished(reservation_id=reservation_id)
                await _write(stream, fleet_pb2.AttachRequest(finished=finished))
            if self._draining and not self._drain_said:
                self._drain_said = True
                await _write(stream, fleet_pb2.AttachRequest(draining=fleet_pb2.DrainStarted()))
            if self._closing.is_set():
                await stream.done_writing()
                return
            if loop.time() >= heartbeat_at_s:
                heartbeat_at_s = loop.time() + heartbeat_s
                self._finished.heartbeat_sent()
                await _write(stream, fleet_pb2.AttachRequest(heartbeat=self._registrant.heartbeat()))
            await _wait_at_most(self._wake, heartbeat_at_s - loop.time())


async def _write(stream: Stream, message: fleet_pb2.AttachRequest) -> None:
    try:
        await stream.write(message)
    except asyncio.InvalidStateError:
        raise _StreamLost("the stream has ended") from None


async def _read(stream: Stream) -> fleet_pb2.AttachResponse:
    response: Any = await stream.read()
    if response is grpc.aio.EOF:  # type: ignore[attr-defined]  # the stubs lack it
        raise _StreamLost("it ended the stream")
    assert isinstance(response, fleet_pb2.AttachResponse)
    return response


async def _wait_at_most(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


def _worth_a_line(failures: int) -> bool:
    """Say it at once, then at every doubling, then now and then: a router may be away for hours."""
    return failures & (failures - 1) == 0 or failures % 64 == 0


def _translate(error: grpc.aio.AioRpcError) -> _StreamLost | WorkerRejected:
    details = error.details() or ""
    if reason_of(error) == REASON_SUPERSEDED:
        return WorkerRejected("a newer worker has taken this name; stopping")
    if error.code() in _FINAL_CODES:
        return WorkerRejected(f"the router rejects this worker: {details}")
    return _StreamLost(f"{error.code().name} {details}")
