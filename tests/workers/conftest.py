"""Fakes for the worker's two neighbours, a model and a router, and a rig that puts a real worker between them on loopback."""

import asyncio
import hashlib
import hmac
import logging
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from homeward.v1 import fleet_pb2, fleet_pb2_grpc, work_pb2, work_pb2_grpc
from homeward.v1.generation_pb2 import AnimateParameters, GenerateRequest
from workers.identity import WorkerIdentity
from workers.lifecycle import Worker
from workers.model import Generated, InputRejected, OnStep, Step
from workers.service_times import ServiceTimes
from workers.settings import WorkerSettings

PATIENCE_S = 30.0
"""How long a test waits for what must happen. Only a failing test waits this long."""

REGION, WORKER, INCARNATION = "us-east", "gpu-1", "0001700000000000-aabbccdd"


class FakeModel:
    """A model whose jobs run, step by step, until the test releases them."""

    name = "fake"
    variant_id = "fake-v1"
    digest = "sha256:" + "5" * 64

    def __init__(self, released: Callable[[], bool] | None = None) -> None:
        self.release = threading.Event()
        self._released = released or self.release.is_set
        self.deaf = False  # True: steps are not announced, so the job cannot be stopped
        self.failure: BaseException | None = None
        self.output = b"moving picture"
        self.steps_made = 0
        self.running = 0
        self.running_max = 0
        self._lock = threading.Lock()

    def check(self, request: GenerateRequest) -> None:
        if request.animate.motion == "levitate":
            raise InputRejected("animate.motion", "unknown motion 'levitate'; choose one of sway, zoom")

    def generate(self, request: GenerateRequest, on_step: OnStep) -> Generated:
        with self._lock:
            self.running += 1
            self.running_max = max(self.running_max, self.running)
        try:
            while not self._released() and request.request_id != "warm-up-0":
                self.steps_made += 1
                if not self.deaf:
                    on_step(Step("denoise", self.steps_made, 1_000_000))
                time.sleep(0.002)
            if self.failure is not None:
                raise self.failure
            return Generated(self.output, "image/webp", 64, 48, 24, 1920, "sway")
        finally:
            with self._lock:
                self.running -= 1

    def warm_up_request(self) -> GenerateRequest:
        return GenerateRequest(request_id="warm-up-0", model=self.name)


def rich_error(code: grpc.StatusCode, reason: str) -> tuple[tuple[str, bytes], ...]:
    """Trailing metadata that says why, as routers send it."""
    status = status_pb2.Status(code=code.value[0], message=reason)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="homeward"))
    return (("grpc-status-details-bin", status.SerializeToString()),)


class Session:
    """One Attach stream, as the router saw it."""

    def __init__(self) -> None:
        self.messages: list[fleet_pb2.AttachRequest] = []
        self.ended = False
        self.failure: tuple[grpc.StatusCode, str] | None = None
        self.fail = asyncio.Event()
        self.writing = asyncio.Lock()

    def of_kind(self, kind: str) -> list[Any]:
        """The messages of one kind, in order."""
        return [getattr(each, kind) for each in self.messages if each.WhichOneof("message") == kind]

    @property
    def finished(self) -> list[str]:
        return [each.reservation_id for each in self.of_kind("finished")]

    def end(self, code: grpc.StatusCode, reason: str = "") -> None:
        """Make the router end this stream."""
        self.failure = None if code is grpc.StatusCode.OK else (code, reason)
        self.fail.set()


class FakeFleet(fleet_pb2_grpc.FleetServicer):
    """A router that registers whoever comes."""

    def __init__(self) -> None:
        self.grant_key = secrets.token_bytes(32)
        self.epoch = 7
        self.heartbeat_ms = 40
        self.lease_ms = 5_000
        self.acknowledges_heartbeats = True
        self.acknowledges_drain = True
        self.answers = True
        self.refuses: tuple[grpc.StatusCode, str] | None = None
        self.sessions: list[Session] = []
        self._news = asyncio.Condition()

    async def Attach(self, requests: AsyncIterator[Any], context: Any) -> None:  # noqa: N802
        session = Session()
        self.sessions.append(session)
        if self.refuses is not None:
            session.end(*self.refuses)
        listener = asyncio.create_task(self._listen(session, requests, context))
        failing = asyncio.create_task(session.fail.wait())
        try:
            await asyncio.wait({listener, failing}, return_when=asyncio.FIRST_COMPLETED)
            await session.writing.acquire()  # gRPC cannot send a message and a status at once
            if session.failure is not None:
                code, reason = session.failure
                await context.abort(code, reason or "ended by the test", rich_error(code, reason) if reason else ())
            if listener.done():
                await listener
        finally:
            listener.cancel()
            failing.cancel()
            session.ended = True
            await self._tell()

    async def _listen(self, session: Session, requests: AsyncIterator[Any], context: Any) -> None:
        async for message in requests:
            session.messages.append(message)
            answer = self._answer(message.WhichOneof("message")) if self.answers else None
            if answer is not None:
                async with session.writing:
                    await context.write(answer)
            await self._tell()

    def _answer(self, kind: str) -> fleet_pb2.AttachResponse | None:
        if kind == "register":
            attached = fleet_pb2.Attached(
                grant_key=self.grant_key, heartbeat_ms=self.heartbeat_ms, lease_ms=self.lease_ms, epoch=self.epoch
            )
            return fleet_pb2.AttachResponse(attached=attached)
        if kind == "heartbeat" and self.acknowledges_heartbeats:
            return fleet_pb2.AttachResponse(heartbeat_ack=fleet_pb2.HeartbeatAck(epoch=self.epoch))
        if kind == "draining" and self.acknowledges_drain:
            return fleet_pb2.AttachResponse(drain_ack=fleet_pb2.DrainAck())
        return None

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def until(self, what: Callable[[], Any]) -> Any:
        """Wait until something holds of what the router saw; return it."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(what)
            return what()

    async def heartbeat_after_now(self) -> fleet_pb2.Heartbeat:
        """Wait for the next heartbeat of the latest stream."""
        seen = len(self.sessions[-1].of_kind("heartbeat"))
        beats = await self.until(lambda: self.sessions[-1].of_kind("heartbeat")[seen:])
        return beats[0]


class Rig:
    """A worker with its fake neighbours, and a caller's view of it."""

    def __init__(self) -> None:
        self.model = FakeModel()
        self.fleet = FakeFleet()
        self.identity = WorkerIdentity(REGION, WORKER, INCARNATION)
        self.worker: Any = None
        self.ready: list[str] = []
        self.drain = asyncio.Event()
        self.stop = asyncio.Event()
        self.life: Any = None
        self.routers: list[Any] = []
        self._channels: list[Any] = []
        self._relays: list[tuple[asyncio.Server, Callable[[], None]]] = []

    async def serve_fleet(self, fleet: FakeFleet | None = None) -> str:
        """Start a router; return its address."""
        server = grpc.aio.server()
        fleet_pb2_grpc.add_FleetServicer_to_server(fleet or self.fleet, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        self.routers.append(server)
        return f"127.0.0.1:{port}"

    async def start(self, *, routers: tuple[str, ...] = (), attached: bool = True, **settings: Any) -> None:
        """Start the worker; by default with one router, and wait until it is attached."""
        told = WorkerSettings(REGION, routers or (await self.serve_fleet(),), WORKER, models=("fake",), **settings)
        times = ServiceTimes({self.model.variant_id: 500})
        self.worker = Worker(told, self.identity, {self.model.variant_id: self.model}, times, self.ready.append)
        await self.worker.start()
        self.life = asyncio.create_task(self.worker.wait_until_over(self.drain, self.stop))
        if attached:
            await self.until(lambda: self.ready)

    async def until(self, what: Callable[[], Any]) -> Any:
        """Poll until something holds; return it."""
        async with asyncio.timeout(PATIENCE_S):
            while not (value := what()):  # noqa: ASYNC110  (the worker has no event for tests)
                await asyncio.sleep(0.005)
            return value

    def request(self, number: int = 1, **parameters: Any) -> GenerateRequest:
        parameters.setdefault("motion", "sway")
        return GenerateRequest(
            request_id=f"request-{number}", model="fake", photo=b"photo", seed=9, animate=AnimateParameters(**parameters)
        )

    def grant(self, request: GenerateRequest, *, key: bytes | None = None, **changes: Any) -> work_pb2.Grant:
        """A signed grant for this request; `changes` are claims."""
        now_us = time.time_ns() // 1_000
        claims = {
            "reservation_id": f"reservation-{secrets.token_hex(4)}",
            "region": REGION,
            "worker": WORKER,
            "incarnation": INCARNATION,
            "epoch": self.fleet.epoch,
            "fence": 1,
            "request_sha256": hashlib.sha256(request.SerializeToString(deterministic=True)).digest(),
            "variant": self.model.variant_id,
            "variant_digest": self.model.digest,
            "start_before_unix_us": now_us + 5_000_000,
            "deadline_unix_us": now_us + 60_000_000,
        }
        signed = work_pb2.GrantClaims(**(claims | changes)).SerializeToString()
        return work_pb2.Grant(claims=signed, signature=hmac.digest(key or self.fleet.grant_key, signed, "sha256"))

    def channel(self) -> Any:
        channel = grpc.aio.insecure_channel(self.worker.address, options=(("grpc.use_local_subchannel_pool", 1),))
        self._channels.append(channel)
        return channel

    async def breakable_channel(self) -> tuple[Any, Callable[[], None]]:
        """A channel through a relay, and what cuts its connections without a word, as when the caller's machine dies."""
        host, _, port = self.worker.address.rpartition(":")
        writers: list[asyncio.StreamWriter] = []

        async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while data := await reader.read(65_536):
                    writer.write(data)
            finally:
                writer.close()

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            writers.extend((writer, far_writer))
            pumps = [asyncio.create_task(pump(reader, far_writer)), asyncio.create_task(pump(far_reader, writer))]
            await asyncio.gather(*pumps, return_exceptions=True)

        def cut() -> None:
            for writer in writers:
                writer.transport.abort()

        server = await asyncio.start_server(relay, "127.0.0.1", 0)
        self._relays.append((server, cut))
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        self._channels.append(channel)
        return channel, cut

    def run(
        self,
        request: GenerateRequest | None = None,
        grant: work_pb2.Grant | None = None,
        *,
        channel: Any = None,
        timeout_s: float | None = None,
        **changes: Any,
    ) -> Any:
        """Call Run; the call is a stream of responses."""
        request = request or self.request()
        stub = work_pb2_grpc.WorkStub(channel or self.channel())
        run = work_pb2.RunRequest(grant=grant or self.grant(request, **changes), request=request)
        return stub.Run(run, timeout=timeout_s)

    async def started(self, **changes: Any) -> tuple[Any, str]:
        """Start a job; return its call and its reservation."""
        call = self.run(**changes)
        response = await call.read()
        assert response.WhichOneof("event") == "started"
        return call, response.started.reservation_id

    async def rest(self, call: Any) -> list[Any]:
        """Read a call to its end."""
        responses = []
        async with asyncio.timeout(PATIENCE_S):
            while (response := await call.read()) is not grpc.aio.EOF:
                responses.append(response)
        return responses

    async def refusal(self, call: Any) -> "Refused":
        """Read a call that must fail; return how."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.rest(call)
        return Refused(caught.value)

    async def over(self) -> bool:
        """Wait until the worker has ended; return whether it was orderly."""
        async with asyncio.timeout(PATIENCE_S):
            return bool(await self.life)

    async def close(self) -> None:
        self.model.deaf = False
        self.stop.set()
        self.drain.set()
        if self.life is not None:
            await asyncio.wait({self.life}, timeout=PATIENCE_S)
        for channel in self._channels:
            await channel.close()
        for relay, cut in self._relays:
            cut()
            relay.close()
            await relay.wait_closed()
        for router in self.routers:
            await router.stop(None)


class Refused:
    """A failed call, its details unpacked."""

    def __init__(self, error: Any) -> None:
        self.code = error.code()
        self.message = error.details()
        self.reason = self.work_began = ""
        self.fields: list[str] = []
        for key, value in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                status = status_pb2.Status.FromString(value)
                assert (status.code, status.message) == (self.code.value[0], self.message)
                for detail in status.details:
                    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
                    if detail.Unpack(info):
                        assert info.domain == "homeward"
                        self.reason, self.work_began = info.reason, info.metadata["work_began"]
                    elif detail.Unpack(bad):
                        self.fields += [violation.field for violation in bad.field_violations]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    yield made
    await made.close()


@pytest.fixture(autouse=True)
def no_errors_of_libraries(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever asyncio or grpc report as an error is a defect of ours: a task nobody awaited, a handler that raised."""
    yield
    errors = [each for each in caplog.get_records("call") if each.levelno >= logging.ERROR]
    assert [each.getMessage() for each in errors if not each.name.startswith("workers")] == []


@pytest.fixture
async def worker(rig: Rig) -> Rig:
    """A rig whose worker, with one slot, is attached."""
    await rig.start()
    return rig


@pytest.fixture
def new_fleet() -> type[FakeFleet]:
    return FakeFleet


@pytest.fixture
def new_model() -> type[FakeModel]:
    return FakeModel
