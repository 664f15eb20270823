"""What does the router add to a request that stays home?

    python -m benchmarks.router_overhead [--requests 400] [--json]

One region with a real router process, a real Valkey and a real worker process whose model only takes time. Every request is
made twice, in turn: directly at the worker, with a grant signed here, and through the router (check, claim, place, dispatch,
stream back). Reported for a job of no time at all and for one of 200 ms: percentiles of both, the added time, and the ratio.
"""

import argparse
import asyncio
import io
import json
import os
import platform
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import grpc
from PIL import Image

from homeward.request_digest import request_sha256
from homeward.v1 import generation_pb2, generation_pb2_grpc, operations_pb2, operations_pb2_grpc, work_pb2, work_pb2_grpc
from localfleet.valkey import EmbeddedValkey
from router.capacity.ledger import Reserved
from router.grants import sign_grant

REGION = "bench"
RESULTS = Path(__file__).parent / "results" / "router_overhead.json"
WARM_UP = 20


def _photo() -> bytes:
    """A JPEG of the size that gateways send: 640 × 427 noise compresses badly, about 100 kB."""
    image = Image.frombytes("RGB", (640, 427), secrets.token_bytes(640 * 427 * 3)).resize((320, 213)).resize((640, 427))
    packed = io.BytesIO()
    image.save(packed, "JPEG", quality=85)
    return packed.getvalue()


def _request(photo: bytes, run_ms: int) -> generation_pb2.GenerateRequest:
    return generation_pb2.GenerateRequest(request_id=secrets.token_hex(16), model="timed", photo=photo, seed=run_ms)


class Bench:
    """The two ways to run one request."""

    def __init__(
        self, router: grpc.aio.Channel, worker: grpc.aio.Channel, identity: operations_pb2.WorkerView, secret: bytes
    ) -> None:
        self._generation = generation_pb2_grpc.GenerationStub(router)
        self._work = work_pb2_grpc.WorkStub(worker)
        self._identity, self._secret = identity, secret

    async def through_router(self, request: generation_pb2.GenerateRequest) -> float:
        """Milliseconds."""
        began = time.perf_counter()
        async for _ in self._generation.Generate(request, timeout=60):
            pass
        return (time.perf_counter() - began) * 1000

    async def direct(self, request: generation_pb2.GenerateRequest) -> float:
        """Milliseconds. Signing the grant is not counted: the router's signing is what is measured."""
        reserved = Reserved(
            reservation_id=secrets.token_hex(16), worker=self._identity.worker, incarnation=self._identity.incarnation,
            address=self._identity.address, variant="timed-v1", digest="sha256:" + "0" * 64, service_us=1,
            epoch=2**60, fence=1, slots=1, busy=1, expires_in_us=10_000_000,
        )  # fmt: skip
        grant = sign_grant(self._secret, REGION, reserved, request_sha256(request), 60_000_000)
        began = time.perf_counter()
        async for _ in self._work.Run(work_pb2.RunRequest(grant=grant, request=request), timeout=60):
            pass
        return (time.perf_counter() - began) * 1000


def _percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(milliseconds, n=100, method="inclusive")
    return {"p50": round(cuts[49], 3), "p95": round(cuts[94], 3), "p99": round(cuts[98], 3)}


async def _measure(bench: Bench, photo: bytes, run_ms: int, requests: int) -> dict[str, object]:
    direct: list[float] = []
    routed: list[float] = []
    for index in range(requests + WARM_UP):
        first, second = await bench.direct(_request(photo, run_ms)), await bench.through_router(_request(photo, run_ms))
        if index >= WARM_UP:
            direct.append(first)
            routed.append(second)
    added = [after - before for before, after in zip(direct, routed, strict=True)]
    return {
        "run_ms": run_ms,
        "requests": requests,
        "direct_ms": _percentiles(direct),
        "through_router_ms": _percentiles(routed),
        "added_ms": _percentiles(added),
        "ratio_p50": round(statistics.median(routed) / statistics.median(direct), 3),
    }


async def _run(router_address: str, secret: bytes, requests: int) -> list[dict[str, object]]:
    options = [("grpc.max_receive_message_length", 32 * 1024 * 1024)]
    async with grpc.aio.insecure_channel(router_address, options=options) as router:
        workers = await operations_pb2_grpc.OperationsStub(router).ListWorkers(operations_pb2.ListWorkersRequest())
        identity = workers.workers[0]
        async with grpc.aio.insecure_channel(identity.address, options=options) as worker:
            bench = Bench(router, worker, identity, secret)
            # The ledger grants nothing in its first moments (see LedgerTimings.rebuild_us).
            await asyncio.sleep(2.0)
            photo = _photo()
            rows = []
            for run_ms, count in ((0, requests), (200, max(20, requests // 10))):
                sys.stderr.write(f"measuring jobs of {run_ms} ms, {count} pairs\n")
                rows.append(await _measure(bench, photo, run_ms, count))
            return rows


def _start(arguments: list[str], environment: dict[str, str]) -> tuple[subprocess.Popen[str], dict[str, str]]:
    process = subprocess.Popen([sys.executable, "-m", *arguments], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"{arguments[0]} did not start")
    ready: dict[str, str] = json.loads(line)
    return process, ready


def main() -> int:
    """Measure, print a table or JSON, and write the figures beside the benchmark."""
    parser = argparse.ArgumentParser(description="Time that the router adds to a request that stays home.")
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    secret = secrets.token_hex(32)
    environment = {**os.environ, "HOMEWARD_REGION_SECRET": secret}
    processes: list[subprocess.Popen[str]] = []
    with EmbeddedValkey() as valkey:
        try:
            listen = ["--region", REGION, "--listen", "127.0.0.1:0", "--redis-url", valkey.url, "--log-level", "warning"]
            router, ready = _start(["router", *listen], environment)
            processes.append(router)
            join = ["--model", "timed", "--region", REGION, "--router", ready["address"], "--name", "w", "--log-level", "warning"]
            worker, _ = _start(["benchmarks.timed_worker", *join], environment)
            processes.append(worker)
            rows = asyncio.run(_run(ready["address"], secret.encode(), given.requests))
        finally:
            for process in reversed(processes):
                process.terminate()
                process.wait(10)
                if process.stdout is not None:
                    process.stdout.close()
    report = {"python": platform.python_version(), "grpcio": grpc.__version__, "cores": os.cpu_count(), "rows": rows}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if given.json:
        sys.stdout.write(json.dumps(report) + "\n")
        return 0
    sys.stdout.write("job       direct p50/p95/p99 ms     through router p50/p95/p99    added p50/p95/p99     ratio of p50\n")
    for row in rows:
        cells = ["/".join(f"{value:.2f}" for value in row[key].values()) for key in ("direct_ms", "through_router_ms", "added_ms")]  # type: ignore[attr-defined]
        sys.stdout.write(f"{row['run_ms']:>4} ms  {cells[0]:>24}  {cells[1]:>28}  {cells[2]:>20}  {row['ratio_p50']:>10}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
