"""Every grant that must not run a job, by itself and over the wire."""

import hashlib
import hmac
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeward.v1.generation_pb2 import GenerateRequest
from homeward.v1.work_pb2 import Grant, GrantClaims
from workers.grants import CLAIMS_BYTES_MAX, CLOCK_SKEW_US, SPENT_GRANTS_MAX, GrantGate
from workers.identity import WorkerIdentity, new_incarnation
from workers.refusals import Refusal, RefusalReason

if TYPE_CHECKING:
    from tests.workers.conftest import Rig

NOW_US = 1_700_000_000_000_000
KEY = bytes(range(32))
ME = WorkerIdentity("us-east", "gpu-1", "0001700000000000-aabbccdd")
REQUEST = GenerateRequest(request_id="request-1", model="fake", photo=b"photo")

DENIED = grpc.StatusCode.PERMISSION_DENIED
FAILED = grpc.StatusCode.FAILED_PRECONDITION


class Model:
    """As much of a model as a gate looks at."""

    name, variant_id, digest = "fake", "fake-v1", "sha256:55"


def gate(key: bytes = KEY, epoch: int = 7) -> GrantGate:
    model: Any = Model()
    made = GrantGate(ME, {model.variant_id: model})
    if key:
        made.attached(key, epoch)
    return made


def claims(**changes: Any) -> GrantClaims:
    usual = {
        "reservation_id": "reservation-1",
        "region": ME.region,
        "worker": ME.worker,
        "incarnation": ME.incarnation,
        "epoch": 7,
        "fence": 3,
        "request_sha256": hashlib.sha256(REQUEST.SerializeToString(deterministic=True)).digest(),
        "variant": Model.variant_id,
        "variant_digest": Model.digest,
        "start_before_unix_us": NOW_US + 1_000_000,
        "deadline_unix_us": NOW_US + 60_000_000,
    }
    return GrantClaims(**(usual | changes))


def sign(content: GrantClaims | bytes, key: bytes = KEY) -> Grant:
    signed = content if isinstance(content, bytes) else content.SerializeToString()
    return Grant(claims=signed, signature=hmac.digest(key, signed, "sha256"))


def refusal(grant: Grant, request: GenerateRequest = REQUEST, at: GrantGate | None = None) -> tuple[RefusalReason, Any]:
    with pytest.raises(Refusal) as caught:
        (at or gate()).verify(grant, request, NOW_US)
    assert not caught.value.work_began
    return caught.value.reason, caught.value.code


def test_a_good_grant_holds() -> None:
    assert gate().verify(sign(claims()), REQUEST, NOW_US) == claims()


@pytest.mark.parametrize(
    ("changes", "reason", "code"),
    [
        ({"reservation_id": ""}, RefusalReason.GRANT_FORGED, DENIED),
        ({"region": "eu-west"}, RefusalReason.GRANT_FOREIGN, DENIED),
        ({"worker": "gpu-2"}, RefusalReason.GRANT_FOREIGN, DENIED),
        ({"incarnation": "0001600000000000-00000000"}, RefusalReason.GRANT_FOREIGN, FAILED),
        ({"incarnation": ""}, RefusalReason.GRANT_FOREIGN, FAILED),
        ({"epoch": 6}, RefusalReason.GRANT_STALE_EPOCH, FAILED),
        ({"epoch": -1}, RefusalReason.GRANT_STALE_EPOCH, FAILED),
        ({"start_before_unix_us": NOW_US - CLOCK_SKEW_US - 1}, RefusalReason.GRANT_EXPIRED, FAILED),
        ({"start_before_unix_us": 0}, RefusalReason.GRANT_EXPIRED, FAILED),
        ({"deadline_unix_us": NOW_US}, RefusalReason.GRANT_EXPIRED, FAILED),
        ({"deadline_unix_us": 0}, RefusalReason.GRANT_EXPIRED, FAILED),
        ({"request_sha256": bytes(32)}, RefusalReason.GRANT_OTHER_REQUEST, DENIED),
        ({"request_sha256": b""}, RefusalReason.GRANT_OTHER_REQUEST, DENIED),
        ({"variant": "fake-v2"}, RefusalReason.VARIANT_NOT_LOADED, FAILED),
        ({"variant_digest": "sha256:66"}, RefusalReason.VARIANT_NOT_LOADED, FAILED),
        ({"variant": ""}, RefusalReason.VARIANT_NOT_LOADED, FAILED),
    ],
)
def test_claims_that_are_not_ours_here_and_now(changes: dict[str, Any], reason: RefusalReason, code: Any) -> None:
    assert refusal(sign(claims(**changes))) == (reason, code)


@pytest.mark.parametrize(
    "grant",
    [
        Grant(),
        Grant(claims=claims().SerializeToString()),
        sign(claims(), key=b"another key"),
        sign(claims(), key=b""),
        sign(b"\xff\xff\xff not claims"),
        sign(claims(variant="v" * CLAIMS_BYTES_MAX)),
    ],
    ids=["empty", "unsigned", "other key", "empty key", "garbage", "too large"],
)
def test_what_nobody_with_our_key_signed(grant: Grant) -> None:
    assert refusal(grant) == (RefusalReason.GRANT_FORGED, DENIED)


def test_without_a_key_nothing_is_authentic() -> None:
    unkeyed = gate(key=b"")
    assert refusal(sign(claims(epoch=99), key=b""), at=unkeyed) == (RefusalReason.GRANT_FORGED, DENIED)


def test_a_grant_for_our_predecessor_is_stale_and_no_attack() -> None:
    old = sign(claims(incarnation="0001600000000000-00000000"), key=b"key of the predecessor")
    assert refusal(old) == (RefusalReason.GRANT_FOREIGN, FAILED)
    elsewhere = sign(claims(incarnation="0001600000000000-00000000", worker="gpu-2"), key=b"some key")
    assert refusal(elsewhere) == (RefusalReason.GRANT_FOREIGN, DENIED)


def test_a_request_of_another_model_does_not_run_on_this_one() -> None:
    request = GenerateRequest(request_id="request-1", model="restyle")
    digest = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
    grant = sign(claims(request_sha256=digest))
    assert refusal(grant, request) == (RefusalReason.VARIANT_NOT_LOADED, FAILED)


def test_the_clock_may_be_off_by_the_skew() -> None:
    late = claims(start_before_unix_us=NOW_US - CLOCK_SKEW_US, deadline_unix_us=NOW_US + 1)
    assert gate().verify(sign(late), REQUEST, NOW_US) == late


def test_a_spent_grant_is_refused_and_a_refused_one_is_not_spent() -> None:
    judge = gate()
    for _ in range(2):
        good = judge.verify(sign(claims()), REQUEST, NOW_US)
    judge.spend(good, NOW_US)
    assert refusal(sign(claims()), at=judge) == (RefusalReason.GRANT_REPLAYED, FAILED)
    # The same reservation signed again, with other claims, is still the same reservation.
    assert refusal(sign(claims(fence=4)), at=judge) == (RefusalReason.GRANT_REPLAYED, FAILED)


def test_spent_grants_are_forgotten_only_when_they_can_start_nothing() -> None:
    judge = gate()
    judge.spend(claims(), NOW_US)
    later_us = claims().start_before_unix_us + CLOCK_SKEW_US
    judge.spend(claims(reservation_id="reservation-2"), later_us)
    with pytest.raises(Refusal):
        judge.verify(sign(claims()), REQUEST, later_us)
    judge.spend(claims(reservation_id="reservation-3", start_before_unix_us=later_us), later_us + 1)
    assert set(judge._forget_at_us) == {"reservation-3"}


def test_the_memory_of_spent_grants_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SPENT_GRANTS_MAX == 65_536
    monkeypatch.setattr("workers.grants.SPENT_GRANTS_MAX", 5)
    judge = gate()
    for number in range(12):
        judge.spend(claims(reservation_id=f"r{number}"), NOW_US)
    assert list(judge._forget_at_us) == [f"r{number}" for number in range(7, 12)]


def test_epochs_grow_on_a_stream_and_start_anew_with_a_registration() -> None:
    judge = gate()
    judge.epoch_seen(9)
    judge.epoch_seen(8)
    assert refusal(sign(claims(epoch=8)), at=judge)[0] is RefusalReason.GRANT_STALE_EPOCH
    assert judge.verify(sign(claims(epoch=9)), REQUEST, NOW_US).epoch == 9
    judge.attached(b"new key", 12)
    assert refusal(sign(claims(epoch=12)), at=judge)[0] is RefusalReason.GRANT_FORGED
    assert judge.verify(sign(claims(epoch=12), b"new key"), REQUEST, NOW_US).epoch == 12


@given(st.data())
def test_no_changed_byte_passes(data: st.DataObject) -> None:
    good = sign(claims())
    part = data.draw(st.sampled_from(["claims", "signature"]))
    content = bytearray(getattr(good, part))
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= 1 << data.draw(st.integers(0, 7))
    changed = Grant(claims=good.claims, signature=good.signature)
    setattr(changed, part, bytes(content))
    reason, _ = refusal(changed)
    assert reason in (RefusalReason.GRANT_FORGED, RefusalReason.GRANT_FOREIGN)


@given(st.binary(max_size=300), st.binary(max_size=40))
def test_arbitrary_bytes_are_refused_and_never_crash(content: bytes, signature: bytes) -> None:
    reason, _ = refusal(Grant(claims=content, signature=signature))
    assert reason in (RefusalReason.GRANT_FORGED, RefusalReason.GRANT_FOREIGN)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_instants_and_epochs_agree_with_their_definition(start_before_us: int, deadline_us: int, epoch: int) -> None:
    grant = sign(claims(start_before_unix_us=start_before_us, deadline_unix_us=deadline_us, epoch=epoch))
    holds = epoch >= 7 and start_before_us + CLOCK_SKEW_US >= NOW_US and deadline_us > NOW_US
    if holds:
        gate().verify(grant, REQUEST, NOW_US)
    else:
        assert refusal(grant)[0] in (RefusalReason.GRANT_STALE_EPOCH, RefusalReason.GRANT_EXPIRED)


def test_incarnations_are_unique_and_sort_by_time() -> None:
    made = [new_incarnation() for _ in range(100)]
    assert len(set(made)) == 100
    assert [each[:16] for each in made] == sorted(each[:16] for each in made)


OVER_THE_WIRE: list[tuple[str, Callable[["Rig"], Any], Any]] = [
    ("GRANT_FORGED", lambda rig: rig.run(grant=Grant(claims=b"x", signature=b"y")), DENIED),
    ("GRANT_FORGED", lambda rig: rig.run(rig.request(), rig.grant(rig.request(), key=b"k")), DENIED),
    ("GRANT_FOREIGN", lambda rig: rig.run(region="eu-west"), DENIED),
    ("GRANT_FOREIGN", lambda rig: rig.run(worker="gpu-2"), DENIED),
    ("GRANT_FOREIGN", lambda rig: rig.run(incarnation="older"), FAILED),
    ("GRANT_EXPIRED", lambda rig: rig.run(start_before_unix_us=1), FAILED),
    ("GRANT_EXPIRED", lambda rig: rig.run(deadline_unix_us=1), FAILED),
    ("GRANT_STALE_EPOCH", lambda rig: rig.run(epoch=rig.fleet.epoch - 1), FAILED),
    ("GRANT_OTHER_REQUEST", lambda rig: rig.run(rig.request(2), rig.grant(rig.request(1))), DENIED),
    ("VARIANT_NOT_LOADED", lambda rig: rig.run(variant="other"), FAILED),
    ("VARIANT_NOT_LOADED", lambda rig: rig.run(variant_digest="sha256:0"), FAILED),
]


@pytest.mark.parametrize(("reason", "attempt", "code"), OVER_THE_WIRE, ids=[f"{i}-{e[0]}" for i, e in enumerate(OVER_THE_WIRE)])
async def test_refusals_reach_the_caller_before_any_work(
    worker: "Rig", reason: str, attempt: Callable[["Rig"], Any], code: Any
) -> None:
    refused = await worker.refusal(attempt(worker))
    assert (refused.code, refused.reason, refused.work_began) == (code, reason, "false")
    assert worker.model.running_max == 0
    worker.model.release.set()
    assert (await worker.rest(worker.run()))[-1].WhichOneof("event") == "result"


async def test_a_grant_starts_one_job(worker: "Rig") -> None:
    worker.model.release.set()
    request = worker.request()
    grant = worker.grant(request)
    assert (await worker.rest(worker.run(request, grant)))[-1].WhichOneof("event") == "result"
    refused = await worker.refusal(worker.run(request, grant))
    assert (refused.code, refused.reason, refused.work_began) == (FAILED, "GRANT_REPLAYED", "false")


async def test_a_grant_that_overtakes_the_registration_waits_for_it(rig: "Rig") -> None:
    rig.fleet.answers = False
    await rig.start(attached=False)
    session = await rig.fleet.until(lambda: rig.fleet.sessions and rig.fleet.sessions[0])
    rig.model.release.set()
    call = rig.run()
    await rig.until(lambda: rig.worker._service._calls == 1)
    rig.fleet.answers = True
    session.end(grpc.StatusCode.UNAVAILABLE)  # the worker comes back, and now is answered
    assert (await rig.rest(call))[-1].WhichOneof("event") == "result"


async def test_a_worker_that_nobody_knows_refuses(rig: "Rig", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.grants.KEY_WAIT_S", 0.05)
    await rig.start(routers=("127.0.0.1:9",), attached=False)
    refused = await rig.refusal(rig.run())
    assert (refused.code, refused.reason, refused.work_began) == (FAILED, "WORKER_NOT_ATTACHED", "false")
