from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AttachRequest(_message.Message):
    __slots__ = ("register", "heartbeat", "finished", "draining")
    REGISTER_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    register: RegisterWorker
    heartbeat: Heartbeat
    finished: JobFinished
    draining: DrainStarted
    def __init__(self, register: _Optional[_Union[RegisterWorker, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., finished: _Optional[_Union[JobFinished, _Mapping]] = ..., draining: _Optional[_Union[DrainStarted, _Mapping]] = ...) -> None: ...

class RegisterWorker(_message.Message):
    __slots__ = ("worker", "incarnation", "address", "slots", "variants", "running_reservations", "region")
    WORKER_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    VARIANTS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_RESERVATIONS_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    worker: str
    incarnation: str
    address: str
    slots: int
    variants: _containers.RepeatedCompositeFieldContainer[VariantOffer]
    running_reservations: _containers.RepeatedScalarFieldContainer[str]
    region: str
    def __init__(self, worker: _Optional[str] = ..., incarnation: _Optional[str] = ..., address: _Optional[str] = ..., slots: _Optional[int] = ..., variants: _Optional[_Iterable[_Union[VariantOffer, _Mapping]]] = ..., running_reservations: _Optional[_Iterable[str]] = ..., region: _Optional[str] = ...) -> None: ...

class VariantOffer(_message.Message):
    __slots__ = ("model", "variant", "digest", "service_ms")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SERVICE_MS_FIELD_NUMBER: _ClassVar[int]
    model: str
    variant: str
    digest: str
    service_ms: int
    def __init__(self, model: _Optional[str] = ..., variant: _Optional[str] = ..., digest: _Optional[str] = ..., service_ms: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("running_reservations", "service_times")
    RUNNING_RESERVATIONS_FIELD_NUMBER: _ClassVar[int]
    SERVICE_TIMES_FIELD_NUMBER: _ClassVar[int]
    running_reservations: _containers.RepeatedScalarFieldContainer[str]
    service_times: _containers.RepeatedCompositeFieldContainer[ServiceTime]
    def __init__(self, running_reservations: _Optional[_Iterable[str]] = ..., service_times: _Optional[_Iterable[_Union[ServiceTime, _Mapping]]] = ...) -> None: ...

class ServiceTime(_message.Message):
    __slots__ = ("variant", "jobs", "mean_ms")
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    MEAN_MS_FIELD_NUMBER: _ClassVar[int]
    variant: str
    jobs: int
    mean_ms: int
    def __init__(self, variant: _Optional[str] = ..., jobs: _Optional[int] = ..., mean_ms: _Optional[int] = ...) -> None: ...

class JobFinished(_message.Message):
    __slots__ = ("reservation_id",)
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    reservation_id: str
    def __init__(self, reservation_id: _Optional[str] = ...) -> None: ...

class DrainStarted(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AttachResponse(_message.Message):
    __slots__ = ("attached", "heartbeat_ack", "drain_ack")
    ATTACHED_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_ACK_FIELD_NUMBER: _ClassVar[int]
    DRAIN_ACK_FIELD_NUMBER: _ClassVar[int]
    attached: Attached
    heartbeat_ack: HeartbeatAck
    drain_ack: DrainAck
    def __init__(self, attached: _Optional[_Union[Attached, _Mapping]] = ..., heartbeat_ack: _Optional[_Union[HeartbeatAck, _Mapping]] = ..., drain_ack: _Optional[_Union[DrainAck, _Mapping]] = ...) -> None: ...

class Attached(_message.Message):
    __slots__ = ("grant_key", "heartbeat_ms", "lease_ms", "epoch")
    GRANT_KEY_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_MS_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    grant_key: bytes
    heartbeat_ms: int
    lease_ms: int
    epoch: int
    def __init__(self, grant_key: _Optional[bytes] = ..., heartbeat_ms: _Optional[int] = ..., lease_ms: _Optional[int] = ..., epoch: _Optional[int] = ...) -> None: ...

class HeartbeatAck(_message.Message):
    __slots__ = ("epoch",)
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    def __init__(self, epoch: _Optional[int] = ...) -> None: ...

class DrainAck(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
