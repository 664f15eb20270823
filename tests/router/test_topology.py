"""Topology files: what is read from a right one, and what is said about a wrong one."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localfleet.topology import plan_topology
from router.topology import TopologyError, alone, load_topology, parse_topology

GOOD = """
[[regions]]
name = "us-east"
router = "10.0.0.1:7411"
[[regions]]
name = "eu-west"
router = "10.0.0.2:7411"
[network]
rings = [[0, 1], [2, 0]]
rtt_ms = [[0, 80.5], [81, 0]]
"""


def test_regions_are_sorted_and_the_matrices_with_them() -> None:
    topology = parse_topology(GOOD)
    assert topology.names == ("eu-west", "us-east")
    assert topology.routers == ("10.0.0.2:7411", "10.0.0.1:7411")
    assert topology.rings == ((0, 2), (1, 0))
    assert topology.rtt_us == ((0, 81_000), (80_500, 0))
    assert topology.emulate_rtt is False
    assert topology.index("us-east") == 1
    assert parse_topology(GOOD + "emulate_rtt = true").emulate_rtt is True


@settings(deadline=None)
@given(st.permutations(range(4)))
def test_the_order_of_the_file_decides_nothing(order: list[int]) -> None:
    names = ["a", "b", "c", "d"]
    rtt = [[abs(home - other) * 10.0 for other in range(4)] for home in range(4)]
    ring = [[min(3, abs(home - other)) for other in range(4)] for home in range(4)]

    def text(order: list[int]) -> str:
        regions = "".join(f'[[regions]]\nname = "{names[each]}"\nrouter = "h:{each}"\n' for each in order)
        rings = [[ring[home][other] for other in order] for home in order]
        return f"{regions}[network]\nrings = {rings}\nrtt_ms = {[[rtt[home][other] for other in order] for home in order]}\n"

    assert parse_topology(text(order)) == parse_topology(text([0, 1, 2, 3]))


def test_what_the_local_fleet_writes_is_read() -> None:
    planned = plan_topology(["us-east", "eu-west", "ap-northeast"], ["a:1", "b:2", "c:3"])
    topology = parse_topology(planned.to_toml())
    assert topology.names == ("ap-northeast", "eu-west", "us-east")
    assert topology.emulate_rtt is True
    for home, other in itertools.product(range(3), range(3)):
        seen = topology.rtt_us[topology.index(planned.regions[home])][topology.index(planned.regions[other])]
        assert seen == planned.rtt_ms[home][other] * 1000


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("", "1 to 62"),
        ("regions = 5", "1 to 62"),
        ("regions = []", "1 to 62"),
        ("regions = [1]", "tables"),
        ('regions = ["us-east"]', "tables"),
        ("[[regions]]\n[network]", "region name None"),
        (GOOD.replace('"us-east"', '"US"'), "must be 1 to 32 characters"),
        (GOOD.replace('"us-east"', '"us-"'), "must be 1 to 32 characters"),
        (GOOD.replace('"us-east"', '"eu-west"'), "stands in the file twice"),
        (GOOD.replace('"10.0.0.1:7411"', "7411"), "must be host:port"),
        (GOOD.partition("[network]")[0], "network"),
        (GOOD.replace("[[0, 1], [2, 0]]", "[[0, 1]]"), "network.rings must be 2 rows of 2"),
        (GOOD.replace("[[0, 1], [2, 0]]", "[[0, 1], [2]]"), "network.rings must be 2 rows of 2"),
        (GOOD.replace("[[0, 1], [2, 0]]", "[[0, 4], [2, 0]]"), "network.rings holds 4"),
        (GOOD.replace("[[0, 1], [2, 0]]", "[[0, 0], [2, 0]]"), "0 is home itself"),
        (GOOD.replace("[[0, 1], [2, 0]]", "[[1, 1], [2, 0]]"), "0 is home itself"),
        (GOOD.replace("[[0, 1], [2, 0]]", "[[0, 1.5], [2, 0]]"), "1, 2 or 3"),
        (GOOD.replace("[[0, 1], [2, 0]]", "[[0, true], [2, 0]]"), "network.rings holds True"),
        (GOOD.replace("80.5", "-1"), "network.rtt_ms holds -1"),
        (GOOD.replace("80.5", "nan"), "network.rtt_ms holds nan"),
        (GOOD.replace("80.5", "inf"), "network.rtt_ms holds inf"),
        (GOOD.replace("80.5", '"far"'), "network.rtt_ms holds 'far'"),
        (GOOD + "]", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(wrong: str, says: str) -> None:
    with pytest.raises(TopologyError, match=says) as error:
        parse_topology(wrong)
    assert "\n" not in str(error.value)


def test_more_regions_than_bits() -> None:
    regions = "".join(f'[[regions]]\nname = "r{number}"\n' for number in range(63))
    with pytest.raises(TopologyError, match="1 to 62"):
        parse_topology(regions)


def test_unknown_and_lonely_regions(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="unknown region 'mars'; the topology knows eu-west, us-east"):
        parse_topology(GOOD).index("mars")
    assert alone("mars").names == ("mars",)
    with pytest.raises(TopologyError):
        alone("Mars")
    with pytest.raises(TopologyError, match="cannot read"):
        load_topology(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(TopologyError, match="cannot read"):
        load_topology(tmp_path / "bytes.toml")
