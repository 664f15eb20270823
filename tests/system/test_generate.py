"""A photo in, an animation out, kept in its home region: what `homeward generate` promises, through everything real."""

import signal
from pathlib import Path

import pytest

from .command_line import CommandLine
from .patience import until
from .photos import LARGE_PX, photo
from .pictures import difference, frames_of, pixels_of
from .running_fleet import FREE_S_MAX, REGIONS, RunningFleet

PROMISED_KEYS = {
    "request_id", "model", "variant", "home_region", "served_region", "attempts", "wait_ms", "start_delay_ms", "run_ms",
    "total_ms", "outcome", "output",
}  # fmt: skip
SAME_PICTURE = 12.0
"""Mean difference, of 255, below which two pictures are the same but for WebP's losses and the first step of a motion."""


@pytest.mark.parametrize("region", REGIONS)
def test_a_photo_becomes_an_animation_at_home(homeward: CommandLine, tmp_path: Path, region: str) -> None:
    source, out = tmp_path / "photo.jpg", tmp_path / "out.webp"
    source.write_bytes(photo())
    ran = homeward("generate", source, "-o", out, "--region", region, "--motion", "zoom", "--seed", 7, "--json")
    assert ran.code == 0, ran.err
    document = ran.document
    assert document.keys() >= PROMISED_KEYS
    assert (document["model"], document["outcome"], document["output"]) == ("animate", "OK", str(out))
    assert (document["home_region"], document["served_region"], document["attempts"]) == (region, region, 1)
    assert document["total_ms"] >= document["run_ms"] > 0
    assert "placed in" in ran.err
    assert "encode" in ran.err
    frames, original = frames_of(out.read_bytes()), pixels_of(source.read_bytes())
    assert len(frames) == document["frames"] > 1
    assert frames.shape[1:] == original.shape
    assert difference(frames[0], original) < SAME_PICTURE
    assert max(difference(frames[0], frame) for frame in frames[1:]) > 0.5, "nothing moves"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out.webp", "photo.jpg"]


def test_a_seed_decides_everything_and_strength_0_is_a_still(homeward: CommandLine, tmp_path: Path) -> None:
    source = tmp_path / "photo.jpg"
    source.write_bytes(photo())

    def generate(name: str, region: str, *arguments: object) -> bytes:
        out = tmp_path / name
        ran = homeward("generate", source, "-o", out, "--region", region, "--motion", "drift", *arguments)
        assert (ran.code, ran.out) == (0, f"{out}\n"), ran.err
        return out.read_bytes()

    first = generate("first.webp", "us-east", "--seed", 1)
    assert generate("again.webp", "eu-west", "--seed", 1) == first, "another region and worker, the same bytes"
    assert generate("other.webp", "us-east", "--seed", 2) != first
    still = frames_of(generate("still.webp", "us-east", "--strength", 0))
    assert max(difference(still[0], frame) for frame in still) < 1.0


def test_operators_see_regions_workers_and_the_story(homeward: CommandLine, fleet: RunningFleet, tmp_path: Path) -> None:
    source, out = tmp_path / "photo.jpg", tmp_path / "out.webp"
    source.write_bytes(photo())
    done = homeward("generate", source, "-o", out, "--region", "eu-west", "--json").document
    regions = homeward("regions", "--region", "eu-west", "--json").document
    assert regions["home_region"] == "eu-west"
    for region in regions["regions"]:
        assert (region["slots"], region["busy"], region["free"], region["load"]) == (2, 0, 2, 0.0)
        assert region["offered"] == 2
        assert 0 <= region["snapshot_age_ms"] < 5_000
    workers = homeward("workers", "--json").document
    assert workers["unreachable"] == []
    named = {worker["worker"]: worker for region in workers["regions"] for worker in region["workers"]}
    assert sorted(named) == sorted(name for plan in fleet.plans.values() for name in plan.workers)
    assert {worker["state"] for worker in named.values()} == {"ready"}
    assert named[done["worker"]]["variants"] == [done["variant"]]
    story = homeward("explain", done["request_id"], "--json").document
    assert (story["outcome"], story["served_region"]) == ("OK", "eu-west")
    assert [decision["reason"] for decision in story["decisions"]] == ["HOME_FIRST", "START_NOW", "SUCCEEDED"]
    told = homeward("explain", done["request_id"]).out
    assert f"request {done['request_id']}: OK, served by eu-west" in told
    assert "[HOME_FIRST]" in told
    assert "us-east-gpu-1" in homeward("workers").out
    assert "usable" in homeward("regions").out
    unknown = homeward("explain", "nobody-sent-this")
    assert unknown.code == 1
    assert unknown.complaint.startswith("homeward: no router has a record of request nobody-sent-this")


def test_ctrl_c_frees_the_slot(homeward: CommandLine, fleet: RunningFleet, tmp_path: Path) -> None:
    source, out = tmp_path / "photo.jpg", tmp_path / "out.webp"
    source.write_bytes(photo(LARGE_PX))
    process = homeward.start("generate", source, "-o", out, "--request-id", "ctrl-c-frees-it")
    assert process.stderr is not None
    said = [process.stderr.readline()]
    while said[-1] and not said[-1].startswith("denoise"):
        said.append(process.stderr.readline())
    assert said[-1], said
    process.send_signal(signal.SIGINT)
    answer, rest = process.communicate(timeout=20)
    assert (process.returncode, answer) == (1, "")
    assert rest.splitlines()[-1] == "homeward: cancelled: the job was stopped and its slot is free (request ctrl-c-frees-it)"
    until(fleet.all_free, "the slot is free", FREE_S_MAX)
    assert fleet.fate_of("ctrl-c-frees-it") == ["started", "stopped"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["photo.jpg"]
