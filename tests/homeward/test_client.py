"""The blocking client against a router made of a script."""

import hashlib
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from homeward import (
    Cancelled,
    Client,
    DeadlineExceeded,
    Event,
    Finished,
    InternalError,
    InvalidRequest,
    NotFound,
    Outcome,
    OutputCorrupted,
    Placed,
    Progress,
    RouterUnavailable,
    Waiting,
)
from homeward.v1.generation_pb2 import GenerateRequest, GenerateResponse

from .fake_router import OUTPUT, PATIENCE_S, FakeRouter, a_story, chunks, placed, progress, result, succeed


def test_events_come_in_order_and_the_last_one_has_everything() -> None:
    with FakeRouter() as router, Client(router.target) as client:
        events = list(client.generate(photo=b"photo", motion="sway", seed=7, strength=0.5, home_region="us-east"))
    assert events[0] == Waiting(attempts=1, wait_ms=250, reason="SLOT_ETA")
    assert isinstance(events[1], Placed)
    assert events[1].served_region == "eu-west"
    assert [event.fraction for event in events if isinstance(event, Progress)] == [0.25, 0.5, 0.75, 1.0]
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.output == OUTPUT
    assert finished.size_bytes == len(OUTPUT)
    assert finished.sha256 == hashlib.sha256(OUTPUT).hexdigest()
    assert finished.outcome is Outcome.OK
    assert (finished.home_region, finished.served_region, finished.attempts) == ("us-east", "eu-west", 2)
    assert (finished.wait_ms, finished.start_delay_ms, finished.run_ms, finished.total_ms) == (250, 120, 900, 1300)
    assert (finished.width_px, finished.frames, finished.motion) == (320, 24, "sway")
    request = router.requests[0]
    assert (request.seed, request.home_region, request.animate.strength) == (7, "us-east", 0.5)
    assert finished.request_id == request.request_id
    assert "photo" not in repr(finished)


def test_strength_is_unset_unless_given() -> None:
    with FakeRouter() as router, Client(router.target) as client:
        client.run(photo=b"photo")
        client.run(photo=b"photo", strength=0.0)
    assert [request.animate.HasField("strength") for request in router.requests] == [False, True]


def test_run_shows_every_event() -> None:
    seen: list[Event] = []
    with FakeRouter() as router, Client(router.target) as client:
        finished = client.run(photo=b"photo", on_event=seen.append)
    assert seen[-1] is finished
    assert len(seen) == 7


def test_leaving_the_loop_cancels_the_call() -> None:
    with FakeRouter() as router, Client(router.target) as client:
        router.script = router.run_forever
        for event in client.generate(photo=b"photo"):
            if isinstance(event, Progress):
                break
        assert router.ended.wait(PATIENCE_S)


def test_closing_the_generator_cancels_the_call() -> None:
    with FakeRouter() as router, Client(router.target) as client:
        router.script = router.run_forever
        events = client.generate(photo=b"photo")
        assert isinstance(next(events), Placed)
        assert not router.ended.is_set()
        events.close()
        assert router.ended.wait(PATIENCE_S)


def test_an_error_of_the_caller_cancels_the_call() -> None:
    def fail(event: Event) -> None:
        raise ZeroDivisionError

    with FakeRouter() as router, Client(router.target) as client:
        router.script = router.run_forever
        with pytest.raises(ZeroDivisionError):
            client.run(photo=b"photo", on_event=fail)
        assert router.ended.wait(PATIENCE_S)


def test_nothing_is_sent_before_the_first_event_is_asked_for() -> None:
    with FakeRouter() as router, Client(router.target) as client:
        client.generate(photo=b"photo").close()
        client.run(photo=b"photo")
        assert router.calls == 1


@pytest.mark.parametrize("facts", [{"size_bytes": 3}, {"sha256": "0" * 64}])
def test_an_output_that_is_not_what_the_worker_made_is_an_error(facts: dict[str, Any]) -> None:
    def script(request: GenerateRequest, context: Any) -> Iterator[GenerateResponse]:
        yield placed()
        yield from chunks()
        yield result(request, **facts)

    corrupted = pytest.raises(OutputCorrupted, match="the worker made")
    with FakeRouter(script) as router, Client(router.target) as client, corrupted as caught:
        client.run(photo=b"photo", request_id="request-1")
    assert caught.value.work_began is True
    assert caught.value.request_id == "request-1"
    assert isinstance(caught.value, InternalError)


def test_a_lost_piece_is_noticed() -> None:
    def script(request: GenerateRequest, context: Any) -> Iterator[GenerateResponse]:
        yield from list(chunks())[1:]
        yield result(request)

    with FakeRouter(script) as router, Client(router.target) as client, pytest.raises(OutputCorrupted):
        client.run(photo=b"photo")


def test_a_stream_without_result_is_an_error() -> None:
    def script(request: GenerateRequest, context: Any) -> Iterator[GenerateResponse]:
        yield progress(1)

    incomplete = pytest.raises(InternalError, match="without a result")
    with FakeRouter(script) as router, Client(router.target) as client, incomplete as caught:
        client.run(photo=b"photo")
    assert caught.value.work_began is True


def test_a_status_after_the_result_takes_nothing_away() -> None:
    def script(request: GenerateRequest, context: Any) -> Iterator[GenerateResponse]:
        yield from succeed(request, context)
        context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "too late to matter")

    with FakeRouter(script) as router, Client(router.target) as client:
        assert client.run(photo=b"photo").output == OUTPUT


def test_events_of_a_newer_router_are_skipped() -> None:
    def script(request: GenerateRequest, context: Any) -> Iterator[GenerateResponse]:
        yield GenerateResponse()
        yield from succeed(request, context)

    with FakeRouter(script) as router, Client(router.target) as client:
        assert isinstance(next(client.generate(photo=b"photo")), Waiting)


def test_our_own_deadline_is_a_typed_error() -> None:
    with FakeRouter() as router, Client(router.target) as client:
        router.script = router.run_forever
        with pytest.raises(DeadlineExceeded) as caught:
            client.run(photo=b"photo", timeout_s=0.2)
    assert caught.value.outcome is Outcome.DEADLINE_EXCEEDED


def test_nobody_at_the_address() -> None:
    with FakeRouter() as router:
        target = router.target
    with Client(target) as client, pytest.raises(RouterUnavailable, match="no router answers") as caught:
        client.run(photo=b"photo")
    assert caught.value.work_began is False
    assert "\n" not in str(caught.value)


def test_a_router_that_dies_during_a_call() -> None:
    with FakeRouter() as router, Client(router.target) as client:
        router.script = router.run_forever
        events = client.generate(photo=b"photo")
        next(events)
        router.__exit__()
        # Either its socket closed, or it managed to say that it cancelled the call.
        with pytest.raises((RouterUnavailable, Cancelled)) as caught:
            list(events)
    assert caught.value.work_began is not False


def test_a_wrong_request_is_refused_before_anything_is_sent() -> None:
    with FakeRouter() as router, Client(router.target) as client:
        with pytest.raises(InvalidRequest) as caught:
            client.generate(photo=b"", timeout_s=0)
        assert router.calls == 0
    assert [violation.field for violation in caught.value.violations] == ["photo", "timeout_s"]
    assert caught.value.work_began is False


def test_a_closed_client_raises_a_typed_error() -> None:
    with FakeRouter() as router:
        client = Client(router.target)
        client.regions()
        client.close()
        for ask in (
            lambda: client.run(photo=b"photo", request_id="request-1"),
            lambda: client.explain("request-1"),
            client.regions,
            client.workers,
        ):
            with pytest.raises(Cancelled, match="the client is closed") as caught:
                ask()
            assert caught.value.work_began is False
            assert caught.value.request_id in ("", "request-1")
        client.close()
        assert router.calls == 0


def test_a_client_that_closes_at_the_moment_of_a_call_raises_a_typed_error() -> None:
    client = Client("127.0.0.1:1")

    def close_first(*_: object, **__: object) -> None:
        client.close()
        raise ValueError("Cannot invoke RPC: Channel closed!")

    with pytest.raises(Cancelled, match="the client is closed"):
        client._call(close_first, None, 1.0, "request-1")


def test_operators_questions() -> None:
    with FakeRouter() as router, Client(router.target) as client:
        router.known["request-1"] = a_story("request-1")
        regions, workers, story = client.regions(), client.workers(), client.explain("request-1")
        with pytest.raises(NotFound):
            client.explain("request-2")
    home, mars = regions.regions
    assert (home.slots, home.busy, home.free, home.offered, home.load) == (2, 1, 1, 1, 0.5)
    assert (mars.slots, mars.load, mars.usable, mars.trouble) == (0, 0.0, False, "never [heard] of")
    assert workers.workers[0].variants == ("animate-v1",)
    assert [decision.reason for decision in story.decisions] == ["HOME_FIRST", "RING_UNLOCKED"]
    assert [decision.refusal for decision in story.decisions] == ["", "FULL"]
    assert story.outcome is Outcome.OK
