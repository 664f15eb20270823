"""The asyncio client: `homeward.client.Client`, awaited.

    async with AsyncClient("127.0.0.1:7411") as client:
        async for event in client.generate(photo=photo, motion="sway", timeout_s=60):
            ...

A loop that is left early cancels its call as soon as the generator is closed. Python closes it when the last reference
goes, which for a plain `async for` is right after the loop; whoever keeps a reference closes it with `contextlib.aclosing` or
`aclose()`. Cancelling the task cancels the call as well. One `AsyncClient` belongs to one event loop: that of its first call.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from homeward.client import ASK_TIMEOUT_S, CLOSED
from homeward.errors import Cancelled, HomewardError, error_of_status
from homeward.events import Event, Finished
from homeward.incoming import Assembly
from homeward.outgoing import CHANNEL_OPTIONS, build_request
from homeward.v1 import generation_pb2, generation_pb2_grpc, operations_pb2, operations_pb2_grpc
from homeward.views import Explanation, Regions, Workers

CLOSED_UNDER = "the client was closed during the call"


class AsyncClient:
    """Sends requests to one router. An async context manager; `close` ends it by hand."""

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        channel_options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        """Prepare a connection to `target` ("host:port"). Needs no running event loop; the first call does.

        The parameters are those of `homeward.client.Client`.
        """
        self.target = target
        self._credentials = credentials
        self._options = [*CHANNEL_OPTIONS, *channel_options]
        self._channel: grpc.aio.Channel | None = None
        self._is_closed = False

    async def close(self) -> None:
        """Close the connection. Calls that still run and calls that come later raise `Cancelled`."""
        self._is_closed = True
        if self._channel is not None:
            await self._channel.close(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def generate(
        self,
        *,
        photo: bytes,
        model: str = "animate",
        motion: str = "",
        strength: float | None = None,
        direction_degrees: float = 0.0,
        seed: int = 0,
        timeout_s: float = 120.0,
        request_id: str | None = None,
        home_region: str = "",
    ) -> AsyncGenerator[Event, None]:
        """Generate once and yield what happens; the last event is `Finished`. See `homeward.client.Client.generate`.

        Raises `InvalidRequest` at once, before anything is sent; the errors of `homeward.errors` while iterating.
        """
        request = build_request(
            model=model,
            photo=photo,
            motion=motion,
            strength=strength,
            direction_degrees=direction_degrees,
            seed=seed,
            timeout_s=timeout_s,
            request_id=request_id,
            home_region=home_region,
        )
        return self._stream(request, timeout_s)

    async def run(self, *, on_event: Callable[[Event], None] | None = None, **parameters: Any) -> Finished:
        """Generate once and return the result. Takes what `generate` takes; `on_event` sees every event as it happens."""
        events = self.generate(**parameters)
        try:
            async for event in events:
                if on_event is not None:
                    on_event(event)
                if isinstance(event, Finished):
                    return event
        finally:
            await events.aclose()
        raise AssertionError("generate ends with Finished or raises")

    async def regions(self, *, timeout_s: float = ASK_TIMEOUT_S) -> Regions:
        """Return this region and its peers as the router sees them."""
        return Regions.of(await self._ask("ListRegions", operations_pb2.ListRegionsRequest(), timeout_s))

    async def workers(self, *, timeout_s: float = ASK_TIMEOUT_S) -> Workers:
        """Return the workers of the router's region."""
        return Workers.of(await self._ask("ListWorkers", operations_pb2.ListWorkersRequest(), timeout_s))

    async def explain(self, request_id: str, *, timeout_s: float = ASK_TIMEOUT_S) -> Explanation:
        """Return every decision that this router took for a request. Raises `NotFound` when it has no record of it."""
        question = operations_pb2.ExplainRequest(request_id=request_id)
        return Explanation.of(await self._ask("Explain", question, timeout_s, request_id))

    async def _stream(self, request: generation_pb2.GenerateRequest, timeout_s: float) -> AsyncGenerator[Event, None]:
        assembly = Assembly(request.request_id)
        call = generation_pb2_grpc.GenerationStub(self._connect(request.request_id)).Generate(request, timeout=timeout_s)
        try:
            async for message in call:
                event = assembly.receive(message)
                if event is not None:
                    yield event
        except grpc.aio.AioRpcError as error:
            # A status after a verified output (a deadline that passed meanwhile) takes nothing away from it.
            if not assembly.is_complete:
                raise self._translate(error, request.request_id, assembly.work_began) from error
        except asyncio.CancelledError as error:
            if _is_asked_for():
                raise
            raise self._closed_under(assembly) from error
        finally:
            call.cancel()  # without effect when the call is over
        if self._is_closed and not assembly.is_complete:
            raise self._closed_under(assembly)  # older grpc.aio ends the stream without a word
        yield assembly.finish()

    def _closed_under(self, assembly: Assembly) -> Cancelled:
        return Cancelled(CLOSED_UNDER, request_id=assembly.request_id, work_began=assembly.work_began)

    def _connect(self, request_id: str) -> grpc.aio.Channel:
        """Return the channel. Made late, because grpc.aio binds it to the event loop that runs at that moment.

        Raises `Cancelled` when the client is closed: gRPC would raise an exception of its own, or open a channel nobody closes.
        """
        if self._is_closed:
            raise Cancelled(CLOSED, request_id=request_id, work_began=False)
        if self._channel is None:
            if self._credentials is None:
                self._channel = grpc.aio.insecure_channel(self.target, options=self._options)
            else:
                self._channel = grpc.aio.secure_channel(self.target, self._credentials, options=self._options)
        return self._channel

    async def _ask(self, method: str, question: Any, timeout_s: float, request_id: str = "") -> Any:
        stub = operations_pb2_grpc.OperationsStub(self._connect(request_id))
        try:
            return await getattr(stub, method)(question, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise self._translate(error, request_id, False) from error
        except asyncio.CancelledError as error:
            if _is_asked_for():
                raise
            raise Cancelled(CLOSED_UNDER, request_id=request_id, work_began=False) from error

    def _translate(self, error: Any, request_id: str, work_began: bool | None) -> HomewardError:
        return error_of_status(
            error.code(),
            error.details(),
            error.trailing_metadata(),
            request_id=request_id,
            target=self.target,
            work_began=work_began,
        )


def _is_asked_for() -> bool:
    """Whether a CancelledError is the task's own. grpc.aio raises one too when the channel was closed under a call."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
