"""Wrong requests, through the real command line, the SDK and bare gRPC: a typed, helpful line at once, and no slot lost."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from homeward import Client, DeadlineExceeded, DuplicateRequest, HomewardError, InvalidRequest, ModelUnavailable, new_request_id
from homeward.errors import error_of_status
from homeward.v1 import generation_pb2, generation_pb2_grpc

from .command_line import CommandLine
from .patience import until
from .photos import BAD_PHOTOS, empty, oversized, photo
from .running_fleet import FREE_S_MAX, RunningFleet

REFUSED_S_MAX = 1.0
"""It takes milliseconds; a hundred is promised, and a busy machine is forgiven."""
TEN_YEARS_S = 10 * 365 * 86_400.0


@pytest.fixture
def client(fleet: RunningFleet) -> Iterator[Client]:
    with Client(fleet.router("us-east")) as opened:
        opened.regions()  # the connection is made
        yield opened


def refused_promptly(client: Client, kind: type[HomewardError], **parameters: Any) -> HomewardError:
    """Run a request that must be refused, and check that it was refused at once and well."""
    parameters = {"photo": photo(), "motion": "zoom", "timeout_s": 30.0} | parameters
    began_s = time.monotonic()
    with pytest.raises(HomewardError) as caught:
        client.run(**parameters)
    took_s = time.monotonic() - began_s
    error = caught.value
    assert type(error) is kind, repr(error)
    assert took_s < REFUSED_S_MAX, f"{error} took {took_s * 1000:.0f} ms; promised are 100 ms"
    assert "\n" not in str(error)
    return error


def test_what_is_no_photo_is_refused_with_a_reason(
    client: Client, fleet: RunningFleet, homeward: CommandLine, tmp_path: Path
) -> None:
    for name, (make, says) in BAD_PHOTOS.items():
        bad = make()
        error = refused_promptly(client, InvalidRequest, photo=bad)
        assert [violation.field for violation in error.violations] == ["photo"], (name, error)
        assert says in str(error), (name, error)
        source, out = tmp_path / "bad.jpg", tmp_path / "out.webp"
        source.write_bytes(bad)
        ran = homeward("generate", source, "-o", out)
        check_complaint(ran.code, ran.out, ran.err, says)
        assert [entry.name for entry in tmp_path.iterdir()] == ["bad.jpg"], name
    until(fleet.all_free, "every slot is free", FREE_S_MAX)


def test_what_does_not_exist_is_refused_with_what_does(
    client: Client, fleet: RunningFleet, homeward: CommandLine, tmp_path: Path
) -> None:
    assert "no worker serves model 'animte'; the fleet serves animate" in str(
        refused_promptly(client, ModelUnavailable, model="animte")
    )
    unknown_motion = refused_promptly(client, InvalidRequest, motion="wobble")
    assert "unknown motion 'wobble'; choose one of " in str(unknown_motion)
    assert [violation.field for violation in unknown_motion.violations] == ["animate.motion"]
    assert "'mars' is unknown; the fleet has eu-west, us-east" in str(
        refused_promptly(client, InvalidRequest, home_region="mars")
    )
    assert "this router serves 'us-east'" in str(refused_promptly(client, InvalidRequest, home_region="eu-west"))

    source, out = tmp_path / "photo.jpg", tmp_path / "out.webp"
    source.write_bytes(photo())
    cases: list[tuple[list[object], str]] = [
        (["--model", "animte"], "no worker serves model 'animte'"),
        (["--motion", "wobble"], "unknown motion 'wobble'"),
        (["--region", "us-eats"], "did you mean us-east?"),
        (["--deadline", "0s"], "out of range"),
        (["--deadline", "10y"], "write for example 60s"),
        (["--deadline", "5256000m"], "at most 10m"),
        (["--router", "127.0.0.1"], "HOST:PORT"),
    ]
    for arguments, says in cases:
        ran = homeward("generate", source, "-o", out, *arguments)
        check_complaint(ran.code, ran.out, ran.err, says)
    ran = homeward("generate", source, "-o", out, "--motion", "wobble", "--json")
    assert (ran.code, ran.document["error"]["kind"]) == (2, "InvalidRequest")
    assert ran.document["error"]["violations"][0]["field"] == "animate.motion"
    assert [entry.name for entry in tmp_path.iterdir()] == ["photo.jpg"]
    until(fleet.all_free, "every slot is free", FREE_S_MAX)


def check_complaint(code: int, out: str, err: str, says: str) -> None:
    """Exit code 2, nothing on standard output, and one line that helps behind whatever progress there was."""
    assert (code, out) == (2, ""), err
    assert "Traceback" not in err
    complaints = [line for line in err.splitlines() if line.startswith("homeward: ")]
    assert len(complaints) == 1, err
    assert err.splitlines()[-1] == complaints[0]
    assert says in complaints[0]


def test_a_request_id_is_used_once(client: Client, fleet: RunningFleet, homeward: CommandLine, tmp_path: Path) -> None:
    request_id = new_request_id()
    source, out = tmp_path / "photo.jpg", tmp_path / "out.webp"
    source.write_bytes(photo())
    first = homeward("generate", source, "-o", out, "--request-id", request_id)
    assert first.code == 0, first.err
    same = homeward("generate", source, "-o", tmp_path / "twice.webp", "--request-id", request_id)
    assert (same.code, same.out) == (1, "")
    assert "has already succeeded" in same.complaint
    other = homeward("generate", source, "-o", tmp_path / "other.webp", "--request-id", request_id, "--seed", 9)
    check_complaint(other.code, other.out, other.err, "was used for a request with other content")
    reused = refused_promptly(client, InvalidRequest, request_id=request_id, photo=photo(hue=200))
    assert (reused.reason, [violation.field for violation in reused.violations]) == ("REQUEST_ID_REUSED", ["request_id"])
    # Built as the command builds it: the same content, the same answer.
    again = refused_promptly(client, DuplicateRequest, request_id=request_id, motion="", home_region="us-east")
    assert again.reason == "REQUEST_SUCCEEDED"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out.webp", "photo.jpg"]
    until(fleet.all_free, "every slot is free", FREE_S_MAX)


def test_a_deadline_that_is_missing_past_hopeless_or_absurd(client: Client, fleet: RunningFleet) -> None:
    assert "timeout_s" in str(refused_promptly(client, InvalidRequest, timeout_s=0))
    assert "timeout_s" in str(refused_promptly(client, InvalidRequest, timeout_s=-1.0))
    assert "timeout_s" in str(refused_promptly(client, InvalidRequest, timeout_s=TEN_YEARS_S))
    hopeless = refused_promptly(client, DeadlineExceeded, timeout_s=0.04)
    assert hopeless.outcome.value in ("DEADLINE_HOPELESS", "DEADLINE_EXCEEDED")

    for timeout_s, says in ((None, "is missing: set a gRPC deadline"), (TEN_YEARS_S, "at most 600 s are allowed")):
        error = refused_over_grpc(fleet, a_request(), timeout_s)
        assert [violation.field for violation in error.violations] == ["deadline"]
        assert says in str(error)
    past = refused_over_grpc(fleet, a_request(), -1.0)
    assert past.status_code == "DEADLINE_EXCEEDED"
    until(fleet.all_free, "every slot is free", FREE_S_MAX)


def test_what_the_sdk_would_not_send_the_router_refuses_too(fleet: RunningFleet) -> None:
    for made, field in (
        (a_request(photo=empty()), "photo"),
        (a_request(photo=oversized()[: 12 * 2**20 + 1]), "photo"),
        (a_request(photo=oversized()), "photo"),
        (a_request(request_id=""), "request_id"),
        (a_request(request_id="spaces are not allowed"), "request_id"),
        (a_request(model=""), "model"),
        (a_request(model="../../etc/passwd"), "model"),
        (a_request(animate=generation_pb2.AnimateParameters(strength=float("nan"))), "animate.strength"),
        (a_request(animate=generation_pb2.AnimateParameters(direction_degrees=float("inf"))), "animate.direction_degrees"),
    ):
        error = refused_over_grpc(fleet, made, 30.0)
        assert isinstance(error, InvalidRequest), error
        assert [violation.field for violation in error.violations] == [field], error
        assert error.work_began is False
    until(fleet.all_free, "every slot is free", FREE_S_MAX)


def a_request(**fields: Any) -> generation_pb2.GenerateRequest:
    """A good request but for `fields`."""
    return generation_pb2.GenerateRequest(
        **({"request_id": new_request_id(), "model": "animate", "photo": photo()} | fields)
    )


def refused_over_grpc(fleet: RunningFleet, request: generation_pb2.GenerateRequest, timeout_s: float | None) -> HomewardError:
    """Call without the SDK's own checks, and translate the status as the SDK does."""
    with grpc.insecure_channel(fleet.router("us-east"), options=[("grpc.max_send_message_length", -1)]) as channel:
        grpc.channel_ready_future(channel).result(timeout=10)
        began_s = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            list(generation_pb2_grpc.GenerationStub(channel).Generate(request, timeout=timeout_s))
        took_s = time.monotonic() - began_s
    status: Any = caught.value
    error = error_of_status(status.code(), status.details(), status.trailing_metadata())
    assert took_s < REFUSED_S_MAX, f"{error} took {took_s * 1000:.0f} ms; promised are 100 ms"
    return error


@pytest.mark.parametrize(("slots", "says"), [(-1, "not -1"), (2**63, "not 0")])
def test_a_worker_with_impossible_slots_is_turned_away(fleet: RunningFleet, slots: int, says: str) -> None:
    name = f"liar-{os.getpid()}"
    # Written by hand: the generated class refuses to hold 2**63. On the wire a receiver sees its lower 32 bits, which are 0.
    register = b"".join(text_field(*part) for part in ((1, name), (2, "life-1"), (3, "127.0.0.1:1")))
    register += varint(4 << 3) + varint(slots % 2**64) + text_field(7, "us-east")
    message = varint(1 << 3 | 2) + varint(len(register)) + register
    with grpc.insecure_channel(fleet.router("us-east")) as channel:
        attach = channel.stream_stream("/homeward.v1.Fleet/Attach")
        with pytest.raises(grpc.RpcError) as caught:
            list(attach(iter([message]), timeout=10))
    status: Any = caught.value
    error = error_of_status(status.code(), status.details(), status.trailing_metadata())
    assert isinstance(error, InvalidRequest)
    assert [violation.field for violation in error.violations] == ["register.slots"], error
    assert says in str(error)
    until(fleet.all_free, "the region counts the slots that it has", FREE_S_MAX)


def varint(number: int) -> bytes:
    """Encode as protobuf does."""
    pieces = []
    while number > 127:
        pieces.append(number & 127 | 128)
        number >>= 7
    return bytes([*pieces, number])


def text_field(number: int, text: str) -> bytes:
    """Encode one string field."""
    return varint(number << 3 | 2) + varint(len(text)) + text.encode()
