"""Which regions there are, how far apart, and where their routers listen.

The file has the shape of a simulator scenario:

    [[regions]]
    name = "us-east"
    router = "10.0.0.5:7411"

    [network]
    rings  = [[0, 1], [1, 0]]      # rings[home][other], 0 to 3
    rtt_ms = [[0, 80], [80, 0]]
    emulate_rtt = false            # true: delay calls to other regions by that much (a fleet on one machine)

Regions are put in the order of their names, so that no decision depends on the order of the file.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from router.policy.state import REGIONS_MAX

REGION_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
ADDRESS = re.compile(r"[A-Za-z0-9._\[\]:-]{1,255}:[0-9]{1,5}")
RTT_MS_MAX = 10_000.0


class TopologyError(ValueError):
    """The topology file cannot be used. The message says where and why."""


@dataclass(frozen=True, slots=True)
class Topology:
    """The fleet's regions, sorted by name. Matrices are [home][other]."""

    names: tuple[str, ...]
    routers: tuple[str, ...]
    rings: tuple[tuple[int, ...], ...]
    rtt_us: tuple[tuple[int, ...], ...]
    emulate_rtt: bool = False

    def index(self, region: str) -> int:
        """Index of a region. Raises `TopologyError` naming the known ones."""
        try:
            return self.names.index(region)
        except ValueError:
            raise TopologyError(f"unknown region {region!r}; the topology knows {', '.join(self.names)}") from None


def alone(region: str) -> Topology:
    """A fleet of one region."""
    if not REGION_NAME.fullmatch(region):
        raise TopologyError(f"region name {region!r} must be 1 to 32 characters of a-z, 0-9 and inner dashes")
    return Topology((region,), ("",), ((0,),), ((0,),))


def _matrix(network: Mapping[str, object], key: str, size: int, low: float, high: float) -> list[list[float]]:
    rows = network.get(key)
    shape = f"network.{key} must be {size} rows of {size} numbers, [home][other]"
    if not isinstance(rows, list) or len(rows) != size:
        raise TopologyError(shape)
    for row in rows:
        if not isinstance(row, list) or len(row) != size:
            raise TopologyError(shape)
        for value in row:
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise TopologyError(f"network.{key} holds {value!r}; allowed are numbers from {low:g} to {high:g}")
    return rows


def parse_topology(text: str) -> Topology:
    """Read a topology from TOML text. Raises `TopologyError`."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TopologyError(f"not valid TOML: {error}") from None
    regions = document.get("regions")
    if not isinstance(regions, list) or not 1 <= len(regions) <= REGIONS_MAX:
        raise TopologyError(f"there must be 1 to {REGIONS_MAX} [[regions]]")
    names: list[str] = []
    routers: list[str] = []
    for region in regions:
        if not isinstance(region, dict):
            raise TopologyError(f"regions must be [[regions]] tables, not {region!r}")
        name, address = region.get("name"), region.get("router", "")
        if not isinstance(name, str) or not REGION_NAME.fullmatch(name):
            raise TopologyError(f"region name {name!r} must be 1 to 32 characters of a-z, 0-9 and inner dashes")
        if name in names:
            raise TopologyError(f"region {name!r} stands in the file twice")
        if not isinstance(address, str) or (len(regions) > 1 and not ADDRESS.fullmatch(address)):
            raise TopologyError(f"router of {name} must be host:port, where its router listens, not {address!r}")
        names.append(name)
        routers.append(address)
    network = document.get("network")
    if not isinstance(network, dict):
        raise TopologyError("there must be a [network] table with rings and rtt_ms")
    emulate_rtt = network.get("emulate_rtt", False)
    if not isinstance(emulate_rtt, bool):
        raise TopologyError(f"network.emulate_rtt must be true or false, not {emulate_rtt!r}")
    rings = _matrix(network, "rings", len(names), 0, 3)
    rtt_ms = _matrix(network, "rtt_ms", len(names), 0.0, RTT_MS_MAX)
    for home, row in enumerate(rings):
        for other, ring in enumerate(row):
            if not isinstance(ring, int) or (ring == 0) != (home == other):
                raise TopologyError(f"network.rings[{home}][{other}] is {ring!r}: 0 is home itself, others are 1, 2 or 3")
    order = sorted(range(len(names)), key=names.__getitem__)
    return Topology(
        names=tuple(names[index] for index in order),
        routers=tuple(routers[index] for index in order),
        rings=tuple(tuple(int(rings[home][other]) for other in order) for home in order),
        rtt_us=tuple(tuple(round(rtt_ms[home][other] * 1000) for other in order) for home in order),
        emulate_rtt=emulate_rtt,
    )


def load_topology(path: Path) -> Topology:
    """Read a topology file. Raises `TopologyError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TopologyError(f"cannot read topology file {path}: {error}") from None
    return parse_topology(text)
