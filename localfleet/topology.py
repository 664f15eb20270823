"""Which regions the local fleet has and how far apart they are, and the topology file that tells its routers.

The file is TOML of the shape that simulator scenarios use too: `[[regions]]`, and `[network]` with one row a region in the
same order: `rings[home][other]` and `rtt_ms[home][other]`. Rings follow from the distances: the nearest other region is ring 1,
the next ring 2, all farther ones ring 3.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

DEFAULT_REGIONS = ("us-east", "eu-west", "ap-northeast")

# Round-trip times of the public internet between such regions, rounded; what matters is their order and that they hurt.
RTT_MS: Mapping[frozenset[str], float] = {
    frozenset({"us-east", "eu-west"}): 80.0,
    frozenset({"us-east", "ap-northeast"}): 170.0,
    frozenset({"eu-west", "ap-northeast"}): 230.0,
}
RTT_MS_ELSEWHERE = 120.0  # between regions of other names: an ocean, but not the widest

RING_FARTHEST = 3
REGIONS_MAX = 10  # each is a router, a Valkey and its workers on one machine; their ports lie ten apart (localfleet.plan)
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")


class TopologyError(ValueError):
    """The regions asked for make no fleet. The message says why."""


@dataclass(frozen=True, slots=True)
class Topology:
    """Regions in order, with the address of each one's router, and the distances between them."""

    regions: tuple[str, ...]
    routers: tuple[str, ...]
    """host:port, one a region."""
    rtt_ms: tuple[tuple[float, ...], ...]
    """rtt_ms[home][other], 0 on the diagonal."""
    emulate_rtt: bool = True
    """Whether routers delay what they say to another region by the round-trip time."""

    @property
    def rings(self) -> tuple[tuple[int, ...], ...]:
        """rings[home][other]: 0 for home itself, then by distance; equal distances share a ring."""
        return tuple(_rings_of(home, row) for home, row in enumerate(self.rtt_ms))

    def to_toml(self) -> str:
        """Return the topology file's text."""
        lines = []
        for name, router in zip(self.regions, self.routers, strict=True):
            # A JSON string is a TOML basic string.
            lines += ["[[regions]]", f"name = {json.dumps(name)}", f"router = {json.dumps(router)}", ""]
        lines += [
            "[network]",
            f"rings = {json.dumps(self.rings)}",
            f"rtt_ms = {json.dumps(self.rtt_ms)}",
            f"emulate_rtt = {json.dumps(self.emulate_rtt)}",
            "",
        ]
        return "\n".join(lines)


def plan_topology(regions: Sequence[str], routers: Sequence[str], emulate_rtt: bool = True) -> Topology:
    """Build the topology of `regions`, whose routers listen at `routers`. Raises `TopologyError`."""
    check_regions(regions)
    rtt_ms = tuple(tuple(_rtt_between(home, other) for other in regions) for home in regions)
    return Topology(tuple(regions), tuple(routers), rtt_ms, emulate_rtt)


def check_regions(regions: Sequence[str]) -> None:
    """Raise `TopologyError` unless the names make a fleet."""
    if not 1 <= len(regions) <= REGIONS_MAX:
        raise TopologyError(f"a local fleet has 1 to {REGIONS_MAX} regions, not {len(regions)}")
    for name in regions:
        if _NAME.fullmatch(name) is None:
            raise TopologyError(f"{name!r} is no region name: use 1 to 32 of a-z, 0-9 and -, for example us-east")
    for one, next_one in pairwise(sorted(regions)):
        if one == next_one:
            raise TopologyError(f"region {one} is named twice")


def _rtt_between(home: str, other: str) -> float:
    return 0.0 if home == other else RTT_MS.get(frozenset({home, other}), RTT_MS_ELSEWHERE)


def _rings_of(home: int, row: Sequence[float]) -> tuple[int, ...]:
    distances = sorted({rtt_ms for other, rtt_ms in enumerate(row) if other != home})
    ring_of = {rtt_ms: min(RING_FARTHEST, ring) for ring, rtt_ms in enumerate(distances, start=1)}
    return tuple(0 if other == home else ring_of[rtt_ms] for other, rtt_ms in enumerate(row))
