"""`homeward up` and `homeward demo` as far as they go without a fleet, and the demo's table and page."""

import socket
from pathlib import Path

import pytest

from cli import fleet
from homeward import Finished, NoCapacity
from localfleet import demo
from localfleet.demo import DemoRow, plan_requests, summarise
from localfleet.demo_page import write_page
from localfleet.plan import ROUTER_OFFSET, FleetPlan
from localfleet.ports import free_ports
from localfleet.state import FleetFile, read_fleet

from .conftest import CommandLine

REGIONS = ("us-east", "eu-west", "ap-northeast")
PHOTOS = [Path("cat.jpg"), Path("coffee.jpg"), Path("rocket.jpg"), Path("temple & sons.jpg")]


def test_a_second_start_is_one_line(homeward: CommandLine) -> None:
    file = FleetFile()
    ran = homeward("up")
    file.close()
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "homeward: a local fleet is already running: stop it first (Ctrl-C in its terminal)\n"


def test_a_taken_port_is_one_line(homeward: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = homeward("up", "--port-base", port - 11, "--regions", "us-east")
    assert ran.code == 1
    assert f"port {port} is taken" in ran.err
    assert "--port-base" in ran.err
    assert ran.err.count("\n") == 1


def test_a_redis_that_does_not_answer_is_one_line(homeward: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    port_base = free_ports(1)[0] - ROUTER_OFFSET
    ran = homeward("up", "--regions", "us-east", "--port-base", port_base)
    assert ran.code == 1
    assert ran.err.splitlines()[-1] == (
        "homeward: no server answers at 127.0.0.1:1, which REDIS_URL names: Connection refused"
    )
    assert read_fleet() is None


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://:secret@127.0.0.1:abc/0", "is no URL with a host and a port"),
        ("redis://:sec/ret@127.0.0.1:1/0", "is no URL with a host and a port"),
        ("redis://[:secret@127.0.0.1", "is no URL with a host and a port"),
        ("http://:secret@127.0.0.1:1", "must start with redis:// or rediss://, or be unix://"),
        ("secret", "must start with redis:// or rediss://, or be unix://"),
        ("unix://", "must start with redis:// or rediss://, or be unix://"),
        ("unix:///nowhere/valkey.sock", "no server answers at /nowhere/valkey.sock, which REDIS_URL names: No such file"),
    ],
)
def test_a_redis_url_that_names_no_server_is_one_line(
    homeward: CommandLine, monkeypatch: pytest.MonkeyPatch, url: str, why: str
) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    ran = homeward("up", "--regions", "us-east", "--port-base", free_ports(1)[0] - ROUTER_OFFSET)
    line = ran.err.splitlines()[-1]
    assert ran.code == 1
    assert line.startswith("homeward: ")
    assert why in line
    assert "sec" not in line


def test_the_help_names_the_ports_that_are_used() -> None:
    region = FleetPlan.make(port_base=(base := free_ports(1)[0] - ROUTER_OFFSET), regions=["us-east"]).regions[0]
    router, metrics = region.router_port - base, region.metrics_port - base
    assert f"+ {router}, {router + 1}, …; their metrics at + {metrics}, {metrics + 1}, …" in fleet._PORT_BASE_HELP


@pytest.mark.parametrize(
    "arguments",
    [["--regions", "US"], ["--regions", "a,a"], ["--regions", ""], ["--workers-per-region", "0"], ["--port-base", "80"]],
)
def test_an_impossible_fleet_was_asked_wrongly(homeward: CommandLine, arguments: list[str]) -> None:
    ran = homeward("up", *arguments)
    assert (ran.code, ran.err.count("\n")) == (2, 1)


@pytest.mark.parametrize("text", ["no toml", "[start_delay]\nshare_mx = 1\n"])
def test_a_policy_that_is_wrong_is_named(homeward: CommandLine, tmp_path: Path, text: str) -> None:
    policy = tmp_path / "bad.toml"
    policy.write_text(text)
    ran = homeward("up", "--regions", "us-east", "--port-base", free_ports(1)[0] - ROUTER_OFFSET, "--policy", policy)
    assert ran.code == 2, ran
    assert str(policy) in ran.err.splitlines()[-1]
    assert "share_m" in ran.err or "policy file" in ran.err


def test_a_demo_without_photos_was_asked_wrongly(homeward: CommandLine, tmp_path: Path) -> None:
    ran = homeward("demo", "--photos", tmp_path, "--out", tmp_path / "out")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "--photos" in ran.err


def a_row(index: int, served: str | None, wait_ms: int = 0, start_delay_ms: int = 0) -> DemoRow:
    calm, burst = plan_requests(REGIONS, PHOTOS)
    request = [*calm, *burst][index]
    if served is None:
        return DemoRow(request, "request-1", None, NoCapacity("every slot is busy <b>"), None)
    finished = Finished(
        output=b"",
        media_type="image/webp",
        sha256="",
        width_px=320,
        height_px=200,
        frames=24,
        duration_ms=2000,
        motion="drift",
        request_id="request-1",
        model="animate",
        variant="animate-v1",
        variant_digest="",
        home_region=request.home,
        served_region=served,
        worker=f"{served}-gpu-1",
        attempts=2 if wait_ms else 1,
        wait_ms=wait_ms,
        start_delay_ms=start_delay_ms,
        run_ms=900,
        total_ms=1000,
    )
    return DemoRow(request, "request-1", finished, None, Path("out") / f"{request.name}.webp")


def test_the_plan_of_the_demo() -> None:
    calm, burst = plan_requests(REGIONS, PHOTOS)
    assert [request.home for request in calm] == list(REGIONS)
    assert {request.home for request in burst} == {"us-east"}
    assert burst[2].name == "burst-03-rocket-parallax"
    assert len({(request.photo, request.motion) for request in burst}) == demo.BURST_REQUESTS
    names = [request.name for request in [*calm, *burst]]
    assert len(set(names)) == len(names)


def test_the_summary_counts_what_the_table_shows() -> None:
    rows = [a_row(0, "us-east"), a_row(1, "eu-west"), a_row(2, "us-east"), a_row(3, "us-east", start_delay_ms=700)]
    rows += [a_row(4, "eu-west"), a_row(5, "eu-west", wait_ms=1500), a_row(6, "ap-northeast"), a_row(7, None)]
    text = "\n".join(summarise(rows))
    assert "Calm: 2 of 3 requests were served in their home region." in text
    assert "Burst: 5 requests at us-east at once; 1 ran there, 3 spilled (2 to eu-west, 1 to ap-northeast)." in text
    assert "Backoff: 1 found no free slot at first and waited, the longest 1.5 s." in text
    assert "Marginal execution delay: 1 started later on purpose, the longest by 700 ms" in text
    assert "FAILED: burst-05-cat-ripple: every slot is busy" in text
    telling = demo.most_telling(rows)
    assert telling is not None
    assert telling.request.name == "burst-02-coffee-pulse"
    assert demo.most_telling(rows[:2]) is None


def test_the_page_shows_everything_and_asks_nobody(tmp_path: Path) -> None:
    page = write_page([a_row(6, "eu-west"), a_row(7, None)], ["<words>"], tmp_path).read_text()
    assert 'src="burst-04-temple &amp; sons-spin.webp"' in page
    assert "spin → drift" in page
    assert "every slot is busy &lt;b&gt;" in page
    assert "&lt;words&gt;" in page
    assert "http" not in page
    assert "<script" not in page
