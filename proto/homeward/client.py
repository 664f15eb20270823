"""The blocking client. `homeward.aio` has the same one for asyncio.

    from homeward import Client, Finished, Placed

    with Client("127.0.0.1:7411") as client:
        for event in client.generate(photo=Path("cat.jpg").read_bytes(), motion="sway", timeout_s=60):
            match event:
                case Placed(served_region=region):
                    print("runs in", region)
                case Finished(output=output):
                    Path("cat.webp").write_bytes(output)

Rules:

* One `Client` is one connection to the router of the gateway's own region. It may be shared by threads.
* Nothing is sent before the first event is asked for. Leaving the loop early, closing the generator, an exception and Ctrl-C
  all cancel the call, and that frees the GPU slot.
* The SDK never retries (see `homeward.errors`).
"""

from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import Any, Self

import grpc

from homeward.errors import Cancelled, HomewardError, error_of_status
from homeward.events import Event, Finished
from homeward.incoming import Assembly
from homeward.outgoing import CHANNEL_OPTIONS, build_request
from homeward.v1 import generation_pb2, generation_pb2_grpc, operations_pb2, operations_pb2_grpc
from homeward.views import Explanation, Regions, Workers

ASK_TIMEOUT_S = 5.0
"""Time limit of the operators' questions, which need no GPU."""
CLOSED = "the client is closed"


class Client:
    """Sends requests to one router. A context manager; `close` ends it by hand."""

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        channel_options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        """Prepare a connection to `target` ("host:port"); it is made with the first call.

        `credentials`: None sends in clear text, for a router in the same trusted network.
        `channel_options`: further gRPC options; they override the SDK's own (`homeward.outgoing.CHANNEL_OPTIONS`).
        """
        self.target = target
        options = [*CHANNEL_OPTIONS, *channel_options]
        if credentials is None:
            self._channel = grpc.insecure_channel(target, options=options)
        else:
            self._channel = grpc.secure_channel(target, credentials, options=options)
        self._generation = generation_pb2_grpc.GenerationStub(self._channel)
        self._operations = operations_pb2_grpc.OperationsStub(self._channel)
        self._is_closed = False

    def close(self) -> None:
        """Close the connection. Calls that still run and calls that come later raise `Cancelled`."""
        self._is_closed = True
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

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
    ) -> Generator[Event, None, None]:
        """Generate once and yield what happens; the last event is `Finished`.

        photo: a PNG, JPEG or WebP file, one frame, at most 12 MiB.
        motion: one of the model's motions; empty lets the model choose.
        strength: 0 (a still) to 2; None means 1, as trained.
        direction_degrees: 0 = right, counter-clockwise, in [-360, 360].
        seed: same seed, same output; 0 to 2⁶⁴ - 1.
        timeout_s: above 0, at most 600; covers waiting, placement and the run.
        request_id: idempotency key, 8 to 64 of [A-Za-z0-9._-]; None makes a fresh one.
        home_region: when given, a router of another region refuses the request.

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

    def run(self, *, on_event: Callable[[Event], None] | None = None, **parameters: Any) -> Finished:
        """Generate once and return the result. Takes what `generate` takes; `on_event` sees every event as it happens."""
        events = self.generate(**parameters)
        try:
            for event in events:
                if on_event is not None:
                    on_event(event)
                if isinstance(event, Finished):
                    return event
        finally:
            events.close()
        raise AssertionError("generate ends with Finished or raises")

    def regions(self, *, timeout_s: float = ASK_TIMEOUT_S) -> Regions:
        """Return this region and its peers as the router sees them."""
        return Regions.of(self._ask(self._operations.ListRegions, operations_pb2.ListRegionsRequest(), timeout_s))

    def workers(self, *, timeout_s: float = ASK_TIMEOUT_S) -> Workers:
        """Return the workers of the router's region."""
        return Workers.of(self._ask(self._operations.ListWorkers, operations_pb2.ListWorkersRequest(), timeout_s))

    def explain(self, request_id: str, *, timeout_s: float = ASK_TIMEOUT_S) -> Explanation:
        """Return every decision that this router took for a request. Raises `NotFound` when it has no record of it."""
        question = operations_pb2.ExplainRequest(request_id=request_id)
        return Explanation.of(self._ask(self._operations.Explain, question, timeout_s, request_id))

    def _stream(self, request: generation_pb2.GenerateRequest, timeout_s: float) -> Generator[Event, None, None]:
        assembly = Assembly(request.request_id)
        call = self._call(self._generation.Generate, request, timeout_s, request.request_id)
        try:
            for message in call:
                event = assembly.receive(message)
                if event is not None:
                    yield event
        except grpc.RpcError as error:
            # A status after a verified output (a deadline that passed meanwhile) takes nothing away from it.
            if not assembly.is_complete:
                raise self._translate(error, request.request_id, assembly.work_began) from error
        finally:
            call.cancel()  # without effect when the call is over
        yield assembly.finish()

    def _ask(self, method: Any, question: Any, timeout_s: float, request_id: str = "") -> Any:
        try:
            return self._call(method, question, timeout_s, request_id)
        except grpc.RpcError as error:
            raise self._translate(error, request_id, False) from error

    def _call(self, method: Any, message: Any, timeout_s: float, request_id: str) -> Any:
        """Call a method of a stub. Raises `Cancelled` when the client is closed, perhaps by another thread at this moment."""
        if not self._is_closed:
            try:
                return method(message, timeout=timeout_s)
            except ValueError:  # all that gRPC says of a closed channel
                if not self._is_closed:
                    raise
        raise Cancelled(CLOSED, request_id=request_id, work_began=False)

    def _translate(self, error: Any, request_id: str, work_began: bool | None) -> HomewardError:
        return error_of_status(
            error.code(),
            error.details(),
            error.trailing_metadata(),
            request_id=request_id,
            target=self.target,
            work_began=work_began,
        )
