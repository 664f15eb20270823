from homeward.v1 import generation_pb2 as _generation_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RunRequest(_message.Message):
    __slots__ = ("grant", "request")
    GRANT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    grant: Grant
    request: _generation_pb2.GenerateRequest
    def __init__(self, grant: _Optional[_Union[Grant, _Mapping]] = ..., request: _Optional[_Union[_generation_pb2.GenerateRequest, _Mapping]] = ...) -> None: ...

class Grant(_message.Message):
    __slots__ = ("claims", "signature")
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    claims: bytes
    signature: bytes
    def __init__(self, claims: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class GrantClaims(_message.Message):
    __slots__ = ("reservation_id", "region", "worker", "incarnation", "epoch", "fence", "request_sha256", "variant", "variant_digest", "start_before_unix_us", "deadline_unix_us")
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    FENCE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_SHA256_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    VARIANT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    START_BEFORE_UNIX_US_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_UNIX_US_FIELD_NUMBER: _ClassVar[int]
    reservation_id: str
    region: str
    worker: str
    incarnation: str
    epoch: int
    fence: int
    request_sha256: bytes
    variant: str
    variant_digest: str
    start_before_unix_us: int
    deadline_unix_us: int
    def __init__(self, reservation_id: _Optional[str] = ..., region: _Optional[str] = ..., worker: _Optional[str] = ..., incarnation: _Optional[str] = ..., epoch: _Optional[int] = ..., fence: _Optional[int] = ..., request_sha256: _Optional[bytes] = ..., variant: _Optional[str] = ..., variant_digest: _Optional[str] = ..., start_before_unix_us: _Optional[int] = ..., deadline_unix_us: _Optional[int] = ...) -> None: ...

class RunResponse(_message.Message):
    __slots__ = ("started", "progress", "output_chunk", "result")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_CHUNK_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    started: RunStarted
    progress: _generation_pb2.Progress
    output_chunk: _generation_pb2.OutputChunk
    result: RunResult
    def __init__(self, started: _Optional[_Union[RunStarted, _Mapping]] = ..., progress: _Optional[_Union[_generation_pb2.Progress, _Mapping]] = ..., output_chunk: _Optional[_Union[_generation_pb2.OutputChunk, _Mapping]] = ..., result: _Optional[_Union[RunResult, _Mapping]] = ...) -> None: ...

class RunStarted(_message.Message):
    __slots__ = ("reservation_id",)
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    reservation_id: str
    def __init__(self, reservation_id: _Optional[str] = ...) -> None: ...

class RunResult(_message.Message):
    __slots__ = ("output", "run_ms")
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    RUN_MS_FIELD_NUMBER: _ClassVar[int]
    output: _generation_pb2.Output
    run_ms: int
    def __init__(self, output: _Optional[_Union[_generation_pb2.Output, _Mapping]] = ..., run_ms: _Optional[int] = ...) -> None: ...
