"""The SDK: what a regional gateway needs to send generation requests home.

    from homeward import Client, Finished

    with Client("127.0.0.1:7411") as client:
        finished = client.run(photo=photo, motion="sway", timeout_s=60)

* `Client` blocks, `AsyncClient` is awaited; both have `generate` (yields events), `run` (returns the end), and for operators
  `regions`, `workers`, `explain`.
* Events: `Waiting`, `Placed`, `Progress`, `Finished`.
* Errors: `HomewardError` and its subclasses, in `homeward.errors` with a table of when each is worth asking again.
* `new_request_id` makes the idempotency key beforehand, for whoever wants to store it first.

Needs grpcio and protobuf, nothing else of Homeward. Everything not exported here may change.
"""

from homeward.aio import AsyncClient
from homeward.client import Client
from homeward.errors import (
    Cancelled,
    DeadlineExceeded,
    DuplicateRequest,
    HomewardError,
    InternalError,
    InvalidRequest,
    ModelUnavailable,
    NoCapacity,
    NotFound,
    OutputCorrupted,
    RouterUnavailable,
    Violation,
    WorkerFailed,
)
from homeward.events import Event, Finished, Placed, Progress, Waiting
from homeward.outcomes import Outcome
from homeward.request_ids import new_request_id
from homeward.views import Decision, Explanation, Pool, Region, Regions, Worker, Workers

__all__ = [
    "AsyncClient",
    "Cancelled",
    "Client",
    "DeadlineExceeded",
    "Decision",
    "DuplicateRequest",
    "Event",
    "Explanation",
    "Finished",
    "HomewardError",
    "InternalError",
    "InvalidRequest",
    "ModelUnavailable",
    "NoCapacity",
    "NotFound",
    "Outcome",
    "OutputCorrupted",
    "Placed",
    "Pool",
    "Progress",
    "Region",
    "Regions",
    "RouterUnavailable",
    "Violation",
    "Waiting",
    "Worker",
    "WorkerFailed",
    "Workers",
    "new_request_id",
]
