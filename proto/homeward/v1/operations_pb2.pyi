from homeward.v1 import outcome_pb2 as _outcome_pb2
from homeward.v1 import peering_pb2 as _peering_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListRegionsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListRegionsResponse(_message.Message):
    __slots__ = ("home_region", "regions")
    HOME_REGION_FIELD_NUMBER: _ClassVar[int]
    REGIONS_FIELD_NUMBER: _ClassVar[int]
    home_region: str
    regions: _containers.RepeatedCompositeFieldContainer[RegionView]
    def __init__(self, home_region: _Optional[str] = ..., regions: _Optional[_Iterable[_Union[RegionView, _Mapping]]] = ...) -> None: ...

class RegionView(_message.Message):
    __slots__ = ("region", "ring", "rtt_ms", "pools", "waiting", "snapshot_age_ms", "usable", "trouble")
    REGION_FIELD_NUMBER: _ClassVar[int]
    RING_FIELD_NUMBER: _ClassVar[int]
    RTT_MS_FIELD_NUMBER: _ClassVar[int]
    POOLS_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    USABLE_FIELD_NUMBER: _ClassVar[int]
    TROUBLE_FIELD_NUMBER: _ClassVar[int]
    region: str
    ring: int
    rtt_ms: float
    pools: _containers.RepeatedCompositeFieldContainer[_peering_pb2.PoolCapacity]
    waiting: int
    snapshot_age_ms: int
    usable: bool
    trouble: str
    def __init__(self, region: _Optional[str] = ..., ring: _Optional[int] = ..., rtt_ms: _Optional[float] = ..., pools: _Optional[_Iterable[_Union[_peering_pb2.PoolCapacity, _Mapping]]] = ..., waiting: _Optional[int] = ..., snapshot_age_ms: _Optional[int] = ..., usable: bool = ..., trouble: _Optional[str] = ...) -> None: ...

class ListWorkersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListWorkersResponse(_message.Message):
    __slots__ = ("region", "workers")
    REGION_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    region: str
    workers: _containers.RepeatedCompositeFieldContainer[WorkerView]
    def __init__(self, region: _Optional[str] = ..., workers: _Optional[_Iterable[_Union[WorkerView, _Mapping]]] = ...) -> None: ...

class WorkerView(_message.Message):
    __slots__ = ("worker", "incarnation", "address", "state", "slots", "busy", "variants", "service_ms", "lease_left_ms")
    WORKER_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    BUSY_FIELD_NUMBER: _ClassVar[int]
    VARIANTS_FIELD_NUMBER: _ClassVar[int]
    SERVICE_MS_FIELD_NUMBER: _ClassVar[int]
    LEASE_LEFT_MS_FIELD_NUMBER: _ClassVar[int]
    worker: str
    incarnation: str
    address: str
    state: str
    slots: int
    busy: int
    variants: _containers.RepeatedScalarFieldContainer[str]
    service_ms: int
    lease_left_ms: int
    def __init__(self, worker: _Optional[str] = ..., incarnation: _Optional[str] = ..., address: _Optional[str] = ..., state: _Optional[str] = ..., slots: _Optional[int] = ..., busy: _Optional[int] = ..., variants: _Optional[_Iterable[str]] = ..., service_ms: _Optional[int] = ..., lease_left_ms: _Optional[int] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("request_id", "home_region", "model", "decisions", "outcome", "arrived_unix_us", "served_region")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    HOME_REGION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ARRIVED_UNIX_US_FIELD_NUMBER: _ClassVar[int]
    SERVED_REGION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    home_region: str
    model: str
    decisions: _containers.RepeatedCompositeFieldContainer[Decision]
    outcome: _outcome_pb2.Outcome
    arrived_unix_us: int
    served_region: str
    def __init__(self, request_id: _Optional[str] = ..., home_region: _Optional[str] = ..., model: _Optional[str] = ..., decisions: _Optional[_Iterable[_Union[Decision, _Mapping]]] = ..., outcome: _Optional[_Union[_outcome_pb2.Outcome, str]] = ..., arrived_unix_us: _Optional[int] = ..., served_region: _Optional[str] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("at_us", "event", "command", "region", "reason", "attempt", "home_load", "pressure", "share", "draw", "delay_us", "snapshot_age_us", "refusal", "text")
    AT_US_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    HOME_LOAD_FIELD_NUMBER: _ClassVar[int]
    PRESSURE_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    DRAW_FIELD_NUMBER: _ClassVar[int]
    DELAY_US_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_AGE_US_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    at_us: int
    event: str
    command: str
    region: str
    reason: _outcome_pb2.Reason
    attempt: int
    home_load: float
    pressure: float
    share: float
    draw: float
    delay_us: int
    snapshot_age_us: int
    refusal: _peering_pb2.RefusalReason
    text: str
    def __init__(self, at_us: _Optional[int] = ..., event: _Optional[str] = ..., command: _Optional[str] = ..., region: _Optional[str] = ..., reason: _Optional[_Union[_outcome_pb2.Reason, str]] = ..., attempt: _Optional[int] = ..., home_load: _Optional[float] = ..., pressure: _Optional[float] = ..., share: _Optional[float] = ..., draw: _Optional[float] = ..., delay_us: _Optional[int] = ..., snapshot_age_us: _Optional[int] = ..., refusal: _Optional[_Union[_peering_pb2.RefusalReason, str]] = ..., text: _Optional[str] = ...) -> None: ...
