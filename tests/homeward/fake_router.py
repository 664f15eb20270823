"""A router made of a script: real gRPC on loopback, answers that the test chooses."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from homeward.v1 import (
    generation_pb2,
    generation_pb2_grpc,
    operations_pb2,
    operations_pb2_grpc,
    outcome_pb2,
    peering_pb2,
)
from homeward.v1.generation_pb2 import GenerateRequest, GenerateResponse

OUTPUT = b"RIFF" + bytes(range(256)) * 8
PATIENCE_S = 10.0
"""How long a test waits for what must happen. Only a failing test waits this long."""

Script = Callable[[GenerateRequest, Any], Iterator[GenerateResponse]]


def progress(step: int, steps: int = 4) -> GenerateResponse:
    return GenerateResponse(progress=generation_pb2.Progress(stage="denoise", step=step, steps=steps))


def placed(region: str = "eu-west") -> GenerateResponse:
    return GenerateResponse(
        placed=generation_pb2.Placed(
            served_region=region,
            worker=f"{region}-gpu-1",
            variant="animate-v1",
            variant_digest="sha256:" + "0" * 64,
            attempts=2,
            start_delay_ms=120,
        )
    )


def waiting() -> GenerateResponse:
    return GenerateResponse(
        waiting=generation_pb2.Waiting(attempts=1, wait_ms=250, reason=outcome_pb2.Reason.REASON_SLOT_ETA)
    )


def chunks(output: bytes = OUTPUT, size: int = 1000) -> Iterator[GenerateResponse]:
    for start in range(0, len(output), size):
        yield GenerateResponse(output_chunk=generation_pb2.OutputChunk(data=output[start : start + size]))


def result(request: GenerateRequest, output: bytes = OUTPUT, **facts: Any) -> GenerateResponse:
    described: dict[str, Any] = {
        "media_type": "image/webp",
        "size_bytes": len(output),
        "sha256": hashlib.sha256(output).hexdigest(),
        "width_px": 320,
        "height_px": 200,
        "frames": 24,
        "duration_ms": 2000,
        "motion": request.animate.motion or "drift",
    } | facts
    return GenerateResponse(
        result=generation_pb2.GenerateResult(
            request_id=request.request_id,
            model=request.model,
            variant="animate-v1",
            variant_digest="sha256:" + "0" * 64,
            home_region="us-east",
            served_region="eu-west",
            worker="eu-west-gpu-1",
            attempts=2,
            wait_ms=250,
            start_delay_ms=120,
            run_ms=900,
            total_ms=1300,
            outcome=outcome_pb2.Outcome.OUTCOME_OK,
            output=generation_pb2.Output(**described),
        )
    )


def succeed(request: GenerateRequest, context: Any) -> Iterator[GenerateResponse]:
    """Everything that a request can go through, and the output."""
    yield waiting()
    yield placed()
    for step in range(1, 5):
        yield progress(step)
    yield from chunks()
    yield result(request)


def refuse(
    code: grpc.StatusCode,
    reason: str,
    message: str = "no, and why",
    *,
    retry_after_s: float | None = None,
    field: str = "",
    work_began: str = "false",
    domain: str = "homeward",
) -> Script:
    """Return a script that ends the call with a rich status."""

    def script(request: GenerateRequest, context: Any) -> Iterator[GenerateResponse]:
        abort(context, code, reason, message, retry_after_s, field, work_began, domain, request.request_id)
        yield from ()

    return script


def abort(
    context: Any,
    code: grpc.StatusCode,
    reason: str,
    message: str,
    retry_after_s: float | None = None,
    field: str = "",
    work_began: str = "false",
    domain: str = "homeward",
    request_id: str = "",
) -> None:
    details: list[Any] = [
        error_details_pb2.ErrorInfo(
            reason=reason, domain=domain, metadata={"work_began": work_began, "request_id": request_id}
        )
    ]
    if retry_after_s is not None:
        delay = Duration()
        delay.FromMicroseconds(round(retry_after_s * 1e6))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description="choose sway or zoom")
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        packed = Packed()
        packed.Pack(detail)
        status.details.append(packed)
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(code, message)


class FakeRouter(generation_pb2_grpc.GenerationServicer, operations_pb2_grpc.OperationsServicer):
    """Serves until the `with` block ends. `script` answers Generate; `known` is what Explain knows."""

    def __init__(self, script: Script = succeed, region: str = "us-east") -> None:
        self.script = script
        self.region = region
        self.requests: list[GenerateRequest] = []
        self.calls = 0
        self.progressed = threading.Event()
        """Set by `run_forever` once the client has something to cancel."""
        self.ended = threading.Event()
        """Set when a call ended, also by cancellation."""
        self.known: dict[str, operations_pb2.ExplainResponse] = {}
        # SO_REUSEPORT would let two servers share a port unnoticed.
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        generation_pb2_grpc.add_GenerationServicer_to_server(self, self._server)
        operations_pb2_grpc.add_OperationsServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self.target = f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait(PATIENCE_S)

    def Generate(self, request: GenerateRequest, context: Any) -> Iterator[GenerateResponse]:  # noqa: N802
        self.calls += 1
        self.requests.append(request)
        context.add_callback(self.ended.set)
        yield from self.script(request, context)

    def run_forever(self, request: GenerateRequest, context: Any) -> Iterator[GenerateResponse]:
        """A script: a job that runs until somebody cancels it."""
        yield placed()
        yield progress(1)
        self.progressed.set()
        self.ended.wait(PATIENCE_S)

    def ListRegions(self, request: Any, context: Any) -> operations_pb2.ListRegionsResponse:  # noqa: N802
        pool = peering_pb2.PoolCapacity(pool="animate", models=["animate"], slots=2, busy=1, offered=1, service_ms=900, workers=2)
        return operations_pb2.ListRegionsResponse(
            home_region=self.region,
            regions=[
                operations_pb2.RegionView(region=self.region, pools=[pool], usable=True, waiting=3, snapshot_age_ms=20),
                operations_pb2.RegionView(
                    region="mars", ring=3, rtt_ms=240000.0, snapshot_age_ms=-1, usable=False, trouble="never [heard] of"
                ),
            ],
        )

    def ListWorkers(self, request: Any, context: Any) -> operations_pb2.ListWorkersResponse:  # noqa: N802
        worker = operations_pb2.WorkerView(
            worker=f"{self.region}-gpu-1", address="127.0.0.1:1", state="ready", slots=1, variants=["animate-v1"], lease_left_ms=900
        )
        return operations_pb2.ListWorkersResponse(region=self.region, workers=[worker])

    def Explain(self, request: operations_pb2.ExplainRequest, context: Any) -> operations_pb2.ExplainResponse:  # noqa: N802
        if request.request_id not in self.known:
            abort(context, grpc.StatusCode.NOT_FOUND, "NOT_FOUND", "no record of this request")
        return self.known[request.request_id]


def a_story(request_id: str) -> operations_pb2.ExplainResponse:
    """A spilled request, as Explain tells it."""
    numbers: dict[str, Any] = {"attempt": 1, "home_load": 1.0, "pressure": 1.0, "share": 0.25, "draw": 0.125}
    return operations_pb2.ExplainResponse(
        request_id=request_id,
        home_region="us-east",
        model="animate",
        outcome=outcome_pb2.Outcome.OUTCOME_OK,
        arrived_unix_us=1_700_000_000_000_000,
        served_region="eu-west",
        decisions=[
            operations_pb2.Decision(
                event="arrived",
                command="reserve",
                region="us-east",
                reason=outcome_pb2.Reason.REASON_HOME_FIRST,
                snapshot_age_us=0,
                text="home is always tried first",
                **numbers,
            ),
            operations_pb2.Decision(
                at_us=2300,
                event="refused",
                command="reserve",
                region="eu-west",
                reason=outcome_pb2.Reason.REASON_RING_UNLOCKED,
                refusal=peering_pb2.RefusalReason.REFUSAL_REASON_FULL,
                snapshot_age_us=400_000,
                delay_us=1_500_000,
                text="home is full and its load of 1.00 has unlocked ring 1, so the nearest region that offers a slot is asked "
                "for one, which costs a round trip",
                **numbers,
            ),
        ],
    )
