from homeward.v1 import outcome_pb2 as _outcome_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GenerateRequest(_message.Message):
    __slots__ = ("request_id", "model", "photo", "seed", "home_region", "animate")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PHOTO_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    HOME_REGION_FIELD_NUMBER: _ClassVar[int]
    ANIMATE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    photo: bytes
    seed: int
    home_region: str
    animate: AnimateParameters
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., photo: _Optional[bytes] = ..., seed: _Optional[int] = ..., home_region: _Optional[str] = ..., animate: _Optional[_Union[AnimateParameters, _Mapping]] = ...) -> None: ...

class AnimateParameters(_message.Message):
    __slots__ = ("motion", "strength", "direction_degrees")
    MOTION_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_DEGREES_FIELD_NUMBER: _ClassVar[int]
    motion: str
    strength: float
    direction_degrees: float
    def __init__(self, motion: _Optional[str] = ..., strength: _Optional[float] = ..., direction_degrees: _Optional[float] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("waiting", "placed", "progress", "output_chunk", "result")
    WAITING_FIELD_NUMBER: _ClassVar[int]
    PLACED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_CHUNK_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    waiting: Waiting
    placed: Placed
    progress: Progress
    output_chunk: OutputChunk
    result: GenerateResult
    def __init__(self, waiting: _Optional[_Union[Waiting, _Mapping]] = ..., placed: _Optional[_Union[Placed, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., output_chunk: _Optional[_Union[OutputChunk, _Mapping]] = ..., result: _Optional[_Union[GenerateResult, _Mapping]] = ...) -> None: ...

class Waiting(_message.Message):
    __slots__ = ("attempts", "wait_ms", "reason")
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    attempts: int
    wait_ms: int
    reason: _outcome_pb2.Reason
    def __init__(self, attempts: _Optional[int] = ..., wait_ms: _Optional[int] = ..., reason: _Optional[_Union[_outcome_pb2.Reason, str]] = ...) -> None: ...

class Placed(_message.Message):
    __slots__ = ("served_region", "worker", "variant", "variant_digest", "attempts", "start_delay_ms")
    SERVED_REGION_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    VARIANT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    START_DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    served_region: str
    worker: str
    variant: str
    variant_digest: str
    attempts: int
    start_delay_ms: int
    def __init__(self, served_region: _Optional[str] = ..., worker: _Optional[str] = ..., variant: _Optional[str] = ..., variant_digest: _Optional[str] = ..., attempts: _Optional[int] = ..., start_delay_ms: _Optional[int] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("stage", "step", "steps")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    stage: str
    step: int
    steps: int
    def __init__(self, stage: _Optional[str] = ..., step: _Optional[int] = ..., steps: _Optional[int] = ...) -> None: ...

class OutputChunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class GenerateResult(_message.Message):
    __slots__ = ("request_id", "model", "variant", "variant_digest", "home_region", "served_region", "worker", "attempts", "wait_ms", "start_delay_ms", "run_ms", "total_ms", "outcome", "output")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    VARIANT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    HOME_REGION_FIELD_NUMBER: _ClassVar[int]
    SERVED_REGION_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    START_DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    RUN_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    variant: str
    variant_digest: str
    home_region: str
    served_region: str
    worker: str
    attempts: int
    wait_ms: int
    start_delay_ms: int
    run_ms: int
    total_ms: int
    outcome: _outcome_pb2.Outcome
    output: Output
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., variant: _Optional[str] = ..., variant_digest: _Optional[str] = ..., home_region: _Optional[str] = ..., served_region: _Optional[str] = ..., worker: _Optional[str] = ..., attempts: _Optional[int] = ..., wait_ms: _Optional[int] = ..., start_delay_ms: _Optional[int] = ..., run_ms: _Optional[int] = ..., total_ms: _Optional[int] = ..., outcome: _Optional[_Union[_outcome_pb2.Outcome, str]] = ..., output: _Optional[_Union[Output, _Mapping]] = ...) -> None: ...

class Output(_message.Message):
    __slots__ = ("media_type", "size_bytes", "sha256", "width_px", "height_px", "frames", "duration_ms", "motion")
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    WIDTH_PX_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_PX_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    MOTION_FIELD_NUMBER: _ClassVar[int]
    media_type: str
    size_bytes: int
    sha256: str
    width_px: int
    height_px: int
    frames: int
    duration_ms: int
    motion: str
    def __init__(self, media_type: _Optional[str] = ..., size_bytes: _Optional[int] = ..., sha256: _Optional[str] = ..., width_px: _Optional[int] = ..., height_px: _Optional[int] = ..., frames: _Optional[int] = ..., duration_ms: _Optional[int] = ..., motion: _Optional[str] = ...) -> None: ...
