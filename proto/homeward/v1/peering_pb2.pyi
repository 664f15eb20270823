from homeward.v1 import work_pb2 as _work_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RefusalReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REFUSAL_REASON_UNSPECIFIED: _ClassVar[RefusalReason]
    REFUSAL_REASON_FULL: _ClassVar[RefusalReason]
    REFUSAL_REASON_NOT_OFFERED: _ClassVar[RefusalReason]
    REFUSAL_REASON_NO_WORKER: _ClassVar[RefusalReason]
    REFUSAL_REASON_LEDGER_DOWN: _ClassVar[RefusalReason]
    REFUSAL_REASON_DRAINING: _ClassVar[RefusalReason]
    REFUSAL_REASON_UNREACHABLE: _ClassVar[RefusalReason]
    REFUSAL_REASON_REBUILDING: _ClassVar[RefusalReason]
REFUSAL_REASON_UNSPECIFIED: RefusalReason
REFUSAL_REASON_FULL: RefusalReason
REFUSAL_REASON_NOT_OFFERED: RefusalReason
REFUSAL_REASON_NO_WORKER: RefusalReason
REFUSAL_REASON_LEDGER_DOWN: RefusalReason
REFUSAL_REASON_DRAINING: RefusalReason
REFUSAL_REASON_UNREACHABLE: RefusalReason
REFUSAL_REASON_REBUILDING: RefusalReason

class WatchCapacityRequest(_message.Message):
    __slots__ = ("from_region",)
    FROM_REGION_FIELD_NUMBER: _ClassVar[int]
    from_region: str
    def __init__(self, from_region: _Optional[str] = ...) -> None: ...

class WatchCapacityResponse(_message.Message):
    __slots__ = ("region", "epoch", "pools", "waiting", "age_ms", "ledger_down")
    REGION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    POOLS_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    LEDGER_DOWN_FIELD_NUMBER: _ClassVar[int]
    region: str
    epoch: int
    pools: _containers.RepeatedCompositeFieldContainer[PoolCapacity]
    waiting: int
    age_ms: int
    ledger_down: bool
    def __init__(self, region: _Optional[str] = ..., epoch: _Optional[int] = ..., pools: _Optional[_Iterable[_Union[PoolCapacity, _Mapping]]] = ..., waiting: _Optional[int] = ..., age_ms: _Optional[int] = ..., ledger_down: bool = ...) -> None: ...

class PoolCapacity(_message.Message):
    __slots__ = ("pool", "models", "slots", "busy", "offered", "service_ms", "workers")
    POOL_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    BUSY_FIELD_NUMBER: _ClassVar[int]
    OFFERED_FIELD_NUMBER: _ClassVar[int]
    SERVICE_MS_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    pool: str
    models: _containers.RepeatedScalarFieldContainer[str]
    slots: int
    busy: int
    offered: int
    service_ms: int
    workers: int
    def __init__(self, pool: _Optional[str] = ..., models: _Optional[_Iterable[str]] = ..., slots: _Optional[int] = ..., busy: _Optional[int] = ..., offered: _Optional[int] = ..., service_ms: _Optional[int] = ..., workers: _Optional[int] = ...) -> None: ...

class ReserveRequest(_message.Message):
    __slots__ = ("from_region", "reservation_id", "request_id", "model", "request_sha256", "time_left_ms", "exclude_workers")
    FROM_REGION_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REQUEST_SHA256_FIELD_NUMBER: _ClassVar[int]
    TIME_LEFT_MS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_WORKERS_FIELD_NUMBER: _ClassVar[int]
    from_region: str
    reservation_id: str
    request_id: str
    model: str
    request_sha256: bytes
    time_left_ms: int
    exclude_workers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, from_region: _Optional[str] = ..., reservation_id: _Optional[str] = ..., request_id: _Optional[str] = ..., model: _Optional[str] = ..., request_sha256: _Optional[bytes] = ..., time_left_ms: _Optional[int] = ..., exclude_workers: _Optional[_Iterable[str]] = ...) -> None: ...

class ReserveResponse(_message.Message):
    __slots__ = ("granted", "refused")
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    granted: ReserveGranted
    refused: ReserveRefused
    def __init__(self, granted: _Optional[_Union[ReserveGranted, _Mapping]] = ..., refused: _Optional[_Union[ReserveRefused, _Mapping]] = ...) -> None: ...

class ReserveGranted(_message.Message):
    __slots__ = ("grant", "worker", "address", "variant", "variant_digest", "slots", "busy", "service_ms", "waiting", "expires_in_ms")
    GRANT_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    VARIANT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    BUSY_FIELD_NUMBER: _ClassVar[int]
    SERVICE_MS_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_IN_MS_FIELD_NUMBER: _ClassVar[int]
    grant: _work_pb2.Grant
    worker: str
    address: str
    variant: str
    variant_digest: str
    slots: int
    busy: int
    service_ms: int
    waiting: int
    expires_in_ms: int
    def __init__(self, grant: _Optional[_Union[_work_pb2.Grant, _Mapping]] = ..., worker: _Optional[str] = ..., address: _Optional[str] = ..., variant: _Optional[str] = ..., variant_digest: _Optional[str] = ..., slots: _Optional[int] = ..., busy: _Optional[int] = ..., service_ms: _Optional[int] = ..., waiting: _Optional[int] = ..., expires_in_ms: _Optional[int] = ...) -> None: ...

class ReserveRefused(_message.Message):
    __slots__ = ("reason", "eta_ms", "slots", "busy")
    REASON_FIELD_NUMBER: _ClassVar[int]
    ETA_MS_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    BUSY_FIELD_NUMBER: _ClassVar[int]
    reason: RefusalReason
    eta_ms: int
    slots: int
    busy: int
    def __init__(self, reason: _Optional[_Union[RefusalReason, str]] = ..., eta_ms: _Optional[int] = ..., slots: _Optional[int] = ..., busy: _Optional[int] = ...) -> None: ...

class ReleaseRequest(_message.Message):
    __slots__ = ("reservation_id", "from_region")
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    FROM_REGION_FIELD_NUMBER: _ClassVar[int]
    reservation_id: str
    from_region: str
    def __init__(self, reservation_id: _Optional[str] = ..., from_region: _Optional[str] = ...) -> None: ...

class ReleaseResponse(_message.Message):
    __slots__ = ("released",)
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    released: bool
    def __init__(self, released: bool = ...) -> None: ...
