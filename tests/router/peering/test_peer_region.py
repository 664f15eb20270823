"""Asking another region's router: whatever it answers, the driver gets an answer that it can use."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from homeward.v1 import peering_pb2, peering_pb2_grpc
from router.channels import Channels
from router.metrics import Metrics
from router.peering.peer_region import PeerRegion
from router.placement_targets import Ask, Granted, NotGranted
from router.policy.vocabulary import Refusal

Answer = Callable[[peering_pb2.ReserveRequest, Any], Awaitable[peering_pb2.ReserveResponse]]


class Peer(peering_pb2_grpc.PeeringServicer):
    """Another region's router that answers as a test says."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.asked: list[peering_pb2.ReserveRequest] = []
        self.released: list[str] = []

    async def Reserve(  # noqa: N802
        self, request: peering_pb2.ReserveRequest, context: Any
    ) -> peering_pb2.ReserveResponse:
        self.asked.append(request)
        return await self._answer(request, context)

    async def Release(  # noqa: N802
        self, request: peering_pb2.ReleaseRequest, context: Any
    ) -> peering_pb2.ReleaseResponse:
        self.released.append(request.reservation_id)
        return peering_pb2.ReleaseResponse(released=True)


@asynccontextmanager
async def peer_that(answer: Answer) -> AsyncIterator[tuple[PeerRegion, Peer, Metrics]]:
    """A region whose router answers like this."""
    peer, server = Peer(answer), grpc.aio.server()
    peering_pb2_grpc.add_PeeringServicer_to_server(peer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channels, metrics = Channels(), Metrics("us-east")
    try:
        yield PeerRegion("eu-west", f"127.0.0.1:{port}", "us-east", channels, metrics, 10_000, True), peer, metrics
    finally:
        await channels.close()
        await server.stop(None)


def ask(number: int = 1) -> Ask:
    return Ask(f"reservation-{number}", "request-1", "animate", bytes(32), 5_000_000, frozenset({"b", "a"}))


def says(**answer: Any) -> Answer:
    async def respond(_request: peering_pb2.ReserveRequest, _context: Any) -> peering_pb2.ReserveResponse:
        return peering_pb2.ReserveResponse(**answer)

    return respond


async def test_a_grant() -> None:
    granted = peering_pb2.ReserveGranted(
        worker="gpu-9", address="h:1", variant="v", variant_digest="d", slots=4, busy=2, service_ms=70, waiting=1
    )
    async with peer_that(says(granted=granted)) as (region, peer, _):
        answer = await region.reserve(ask())
        assert isinstance(answer, Granted)
        assert (answer.worker, answer.slots, answer.busy, answer.service_us, answer.waiting) == ("gpu-9", 4, 2, 70_000, 1)
        (asked,) = peer.asked
        assert (asked.from_region, asked.reservation_id, asked.time_left_ms) == ("us-east", "reservation-1", 5_000)
        assert list(asked.exclude_workers) == ["a", "b"]
        assert peer.released == []


@pytest.mark.parametrize(
    ("reason", "refusal"), [(1, Refusal.FULL), (2, Refusal.NOT_OFFERED), (5, Refusal.DRAINING), (99, Refusal.FULL)]
)
async def test_a_refusal_of_this_version_or_a_newer_one(reason: int, refusal: Refusal) -> None:
    refused = peering_pb2.ReserveRefused(reason=reason, eta_ms=250, slots=4, busy=3)  # type: ignore[arg-type]
    async with peer_that(says(refused=refused)) as (region, _, _):
        assert await region.reserve(ask()) == NotGranted(refusal, 250_000, 4, 3)


async def test_numbers_that_cannot_be() -> None:
    refused = peering_pb2.ReserveRefused(reason=1, eta_ms=-5, slots=-1, busy=-(2**31))  # type: ignore[arg-type]
    async with peer_that(says(refused=refused)) as (region, _, _):
        assert await region.reserve(ask()) == NotGranted(Refusal.FULL, 0, 0, 0)
    async with peer_that(says()) as (region, _, _):
        assert isinstance(await region.reserve(ask()), NotGranted)
    granted = peering_pb2.ReserveGranted(slots=-4, busy=-2, service_ms=-70, waiting=-1)
    async with peer_that(says(granted=granted)) as (region, _, _):
        answer = await region.reserve(ask())
        assert isinstance(answer, Granted)
        assert (answer.slots, answer.busy, answer.service_us, answer.waiting) == (0, 0, 0, 0)


async def test_an_error_counts_as_unreachable() -> None:
    async def fails(_request: peering_pb2.ReserveRequest, context: Any) -> peering_pb2.ReserveResponse:
        await context.abort(grpc.StatusCode.INTERNAL, "broke after claiming")
        raise AssertionError

    async with peer_that(fails) as (region, peer, _):
        assert await region.reserve(ask()) == NotGranted(Refusal.UNREACHABLE, maybe_claimed=True)
        assert peer.released == [], "who asked gives it back, without making the request wait"


async def test_too_many_asks_are_dropped_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.peering.peer_region.ASKS_PER_S", 2)
    monkeypatch.setattr("router.peering.peer_region.ASKS_WAITING_MAX", 3)
    async with peer_that(says(refused=peering_pb2.ReserveRefused(reason="REFUSAL_REASON_FULL"))) as (region, peer, metrics):
        answers = await asyncio.gather(*(region.reserve(ask(number)) for number in range(10)))
        dropped = [each for each in answers if isinstance(each, NotGranted) and each.refusal is Refusal.UNREACHABLE]
        assert len(peer.asked) == 10 - len(dropped)
        assert len(dropped) >= 5
        assert metrics.registry.get_sample_value("homeward_peer_asks_dropped_total") == len(dropped)
        assert (await region.reserve(ask(99))) == NotGranted(Refusal.FULL), "later ones are asked again"


async def test_releasing_to_nobody_is_quiet() -> None:
    channels = Channels()
    region = PeerRegion("eu-west", "127.0.0.1:1", "us-east", channels, Metrics("us-east"), 0, False)
    await region.release("reservation-1")
    assert await region.reserve(ask()) == NotGranted(Refusal.UNREACHABLE, maybe_claimed=True)
    await channels.close()
