"""Snapshots that cannot be true are dropped, counted and shown; dead streams are opened anew."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeward.v1 import peering_pb2, peering_pb2_grpc
from localfleet.valkey import EmbeddedValkey
from router.capacity_board import POOLS_PER_SNAPSHOT_MAX, SLOTS_PER_POOL_MAX, CapacityBoard, ImpossibleSnapshot, check_snapshot
from router.topology import Topology
from tests.router.stand import eventually, free_ports, fresh_region, line_of, open_stand, settings_of

INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)
TOPOLOGY = Topology(("r0", "r1"), ("", ""), ((0, 1), (1, 0)), ((0, 20_000), (20_000, 0)))


def pool(**changes: Any) -> peering_pb2.PoolCapacity:
    usual = {"pool": "p", "models": ["animate"], "slots": 4, "busy": 1, "offered": 3, "service_ms": 50, "workers": 1}
    return peering_pb2.PoolCapacity(**(usual | changes))


def snapshot(region: str = "r1", **changes: Any) -> peering_pb2.WatchCapacityResponse:
    return peering_pb2.WatchCapacityResponse(**({"region": region, "pools": [pool()]} | changes))


LIES = [
    snapshot("r0"),
    snapshot(waiting=-1),
    snapshot(age_ms=-1),
    snapshot(epoch=-(2**63)),
    snapshot(pools=[pool(slots=-1)]),
    snapshot(pools=[pool(slots=2**31 - 1)]),
    snapshot(pools=[pool(busy=-4)]),
    snapshot(pools=[pool(offered=-1)]),
    snapshot(pools=[pool(offered=5)]),
    snapshot(pools=[pool(service_ms=-1)]),
    snapshot(pools=[pool(service_ms=2**63 - 1)]),
    snapshot(pools=[pool()] * (POOLS_PER_SNAPSHOT_MAX + 1)),
]


@pytest.mark.parametrize("lie", LIES, ids=range(len(LIES)))
def test_a_lie_is_refused_and_the_last_truth_stays(lie: peering_pb2.WatchCapacityResponse) -> None:
    board = CapacityBoard(TOPOLOGY, 0)
    board.post(1, snapshot(), 1_000_000)
    with pytest.raises(ImpossibleSnapshot):
        board.post(1, lie, 2_000_000)
    assert board.regions[1].as_of_us == 1_000_000
    assert board.view("animate", 2_000_000, 0).offered == [0, 3]


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            peering_pb2.PoolCapacity, slots=INT32, busy=INT32, offered=INT32, service_ms=INT64, workers=INT32,
            models=st.lists(st.sampled_from(["animate", "restyle", ""]), max_size=3),
        ),
        max_size=4,
    ),
    INT32, INT64, INT64, st.booleans(),
)  # fmt: skip
def test_whatever_a_peer_says_the_view_stays_sane(
    pools: list[peering_pb2.PoolCapacity], waiting: int, age_ms: int, epoch: int, ledger_down: bool
) -> None:
    board = CapacityBoard(TOPOLOGY, 0)
    said = snapshot(pools=pools, waiting=waiting, age_ms=age_ms, epoch=epoch, ledger_down=ledger_down)
    try:
        board.post(1, said, 5_000_000)
    except ImpossibleSnapshot:
        assert board.regions[1].as_of_us is None
    view = board.view("animate", 6_000_000, 0)
    for region in range(2):
        assert 0 <= view.offered[region] <= 4 * SLOTS_PER_POOL_MAX
        assert 0.0 <= view.load[region] <= 1.0
        assert view.serves[region] in (0, 1)
        assert view.age_us[region] >= -1


def test_what_happens_between_two_snapshots() -> None:
    board = CapacityBoard(TOPOLOGY, 0)
    board.post(1, snapshot(), 1_000_000)
    board.granted(1, "animate", 4, 2)
    assert board.view("animate", 1_000_000, 0).offered[1] == 2
    board.refused(1, "animate")
    assert board.view("animate", 1_000_000, 0).offered[1] == 0
    board.granted(1, "animate", 4, 2)
    assert board.view("animate", 1_000_000, 0).offered[1] == 0, "never below nothing"
    board.post(1, snapshot(ledger_down=True), 2_000_000)
    view = board.view("animate", 2_500_000, 0)
    assert (view.offered[1], view.load[1], view.age_us) == (0, 1.0, [-1, 500_000])


def test_the_age_includes_the_age_at_the_sender() -> None:
    board = CapacityBoard(TOPOLOGY, 0)
    board.post(1, snapshot(age_ms=700), 1_000_000)
    assert board.age_us(1, 1_100_000) == 800_000
    check_snapshot(snapshot(), "r1")


class LyingPeer(peering_pb2_grpc.PeeringServicer):
    """Streams what a test puts into its queue."""

    def __init__(self) -> None:
        self.says: asyncio.Queue[peering_pb2.WatchCapacityResponse | None] = asyncio.Queue()
        self.watched = 0

    async def WatchCapacity(  # noqa: N802
        self, request: peering_pb2.WatchCapacityRequest, context: Any
    ) -> AsyncIterator[peering_pb2.WatchCapacityResponse]:
        self.watched += 1
        while (said := await self.says.get()) is not None:
            yield said


async def test_a_lying_router(valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.peering.snapshots.SILENCE_S", 1.0)
    peer, server = LyingPeer(), grpc.aio.server()
    peering_pb2_grpc.add_PeeringServicer_to_server(peer, server)
    names = sorted([fresh_region("a"), fresh_region("b")])
    peer_port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    home_port = free_ports(1)[0]
    topology = line_of(names, [home_port, peer_port], 0.0)
    try:
        settings = settings_of(names[0], valkey.url, listen=topology.routers[0], topology=topology)
        async with open_stand(settings) as stand:

            async def view() -> Any:
                return (await stand.client.regions()).regions[1]

            async def shows(trouble: str, usable: bool) -> bool:
                seen = await view()
                return trouble in seen.trouble and seen.usable == usable and (usable or seen.snapshot_age_ms >= -1)

            assert (await view()).snapshot_age_ms == -1
            peer.says.put_nowait(snapshot(names[1]))
            await eventually(lambda: shows("", True), "the truth arrives")
            assert (await view()).offered == 3
            for count, lie in enumerate(LIES[1:], start=1):
                changed = peering_pb2.WatchCapacityResponse()
                changed.CopyFrom(lie)
                changed.region = names[1]
                peer.says.put_nowait(changed)
                await eventually(
                    lambda: stand.metric("homeward_peer_snapshots_refused_total", region=names[1]) == count,  # noqa: B023
                    f"lie {count} is counted",
                )
                assert "impossible snapshot" in (await view()).trouble
                assert (await view()).offered == 3, "the last truth stays, and ages"
            peer.says.put_nowait(snapshot(names[1], pools=[pool(offered=1)]))
            await eventually(lambda: shows("", True), "a new truth is taken")
            assert (await view()).trouble == ""
            # A stream that ends, and one that falls silent, are opened anew.
            watched = peer.watched
            peer.says.put_nowait(None)
            await eventually(lambda: peer.watched == watched + 1, "it is watched again")
            await eventually(lambda: peer.watched >= watched + 2, "silence is no life")
            assert "silent" in (await view()).trouble
    finally:
        await server.stop(None)
