"""`homeward generate`: files, exit codes, JSON, progress, Ctrl-C."""

import os
import re
import signal
import stat
import subprocess
from pathlib import Path

import grpc
import pytest

from tests.homeward.fake_router import OUTPUT, PATIENCE_S, FakeRouter, refuse

from .conftest import ENTRY, CommandLine


def folder_of(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if entry.name != "state")


def test_the_file_is_written_and_progress_stays_off_stdout(
    homeward: CommandLine, router: FakeRouter, photo: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.webp"
    ran = homeward("generate", photo, "-o", out, "--router", router.target, "--motion", "sway", "--seed", 3, "--direction", -90)
    assert ran.code == 0, ran.err
    assert out.read_bytes() == OUTPUT
    assert ran.out == f"{out}\n"
    lines = ran.err.splitlines()
    assert lines[0].startswith("waiting 250 ms")
    assert lines[1].startswith("placed in eu-west on eu-west-gpu-1, starts 120 ms later")
    assert lines[-1].startswith("done in eu-west, away from us-east: sway, 1.3 s in all")
    assert len(lines) <= 7
    request = router.requests[0]
    assert (request.seed, request.animate.motion, request.animate.direction_degrees) == (3, "sway", -90.0)
    assert folder_of(tmp_path) == ["cat.jpg", "out.webp"]


def test_json_has_every_measured_field(homeward: CommandLine, router: FakeRouter, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.webp"
    ran = homeward("generate", photo, "-o", out, "--router", router.target, "--request-id", "request-1", "--json")
    assert ran.code == 0, ran.err
    document = ran.document
    assert list(document)[:12] == [
        "request_id",
        "model",
        "variant",
        "home_region",
        "served_region",
        "attempts",
        "wait_ms",
        "start_delay_ms",
        "run_ms",
        "total_ms",
        "outcome",
        "output",
    ]
    assert document["outcome"] == "OK"
    assert document["request_id"] == "request-1"
    assert document["output"] == str(out)
    assert (document["media_type"], document["size_bytes"], document["frames"]) == ("image/webp", len(OUTPUT), 24)


def test_an_older_result_is_replaced_and_its_permissions_are_ordinary(
    homeward: CommandLine, router: FakeRouter, photo: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.webp"
    out.write_bytes(b"older")
    os.umask(mask := os.umask(0))
    assert homeward("generate", photo, "-o", out, "--router", router.target).code == 0
    assert out.read_bytes() == OUTPUT
    assert stat.S_IMODE(out.stat().st_mode) == 0o666 & ~mask


def test_a_symbolic_link_stays_one(homeward: CommandLine, router: FakeRouter, photo: Path, tmp_path: Path) -> None:
    real, link = tmp_path / "real.webp", tmp_path / "link.webp"
    real.write_bytes(b"older")
    link.symlink_to(real)
    assert homeward("generate", photo, "-o", link, "--router", router.target).code == 0
    assert link.is_symlink()
    assert real.read_bytes() == OUTPUT


def test_a_failure_leaves_nothing_behind_and_an_older_result_alone(
    homeward: CommandLine, router: FakeRouter, photo: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.webp"
    out.write_bytes(b"older")
    router.script = refuse(grpc.StatusCode.UNAVAILABLE, "NO_CAPACITY", "every slot is busy", retry_after_s=1.25)
    ran = homeward("generate", photo, "-o", out, "--router", router.target)
    assert (ran.code, ran.out) == (1, "")
    request_id = router.requests[0].request_id
    assert ran.err.splitlines()[-1] == f"homeward: every slot is busy (try again in 1.2 s) (request {request_id})"
    error = homeward("generate", photo, "-o", out, "--router", router.target, "--json").document["error"]
    assert error["request_id"] == router.requests[1].request_id
    assert out.read_bytes() == b"older"
    assert folder_of(tmp_path) == ["cat.jpg", "out.webp"]


@pytest.mark.parametrize(
    ("code", "reason", "exit_code"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "INVALID", 2),
        (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED", 2),  # for other content
        (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_SUCCEEDED", 1),
        (grpc.StatusCode.ALREADY_EXISTS, "DUPLICATE", 1),
        (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_UNAVAILABLE", 1),  # the model exists, but no worker is there
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_HOPELESS", 1),
        (grpc.StatusCode.INTERNAL, "INTERNAL", 1),
    ],
)
def test_exit_codes_of_the_router_s_answers(
    homeward: CommandLine,
    router: FakeRouter,
    photo: Path,
    tmp_path: Path,
    code: grpc.StatusCode,
    reason: str,
    exit_code: int,
) -> None:
    router.script = refuse(code, reason, field="animate.motion")
    ran = homeward("generate", photo, "-o", tmp_path / "out.webp", "--router", router.target, "--json")
    assert ran.code == exit_code
    error = ran.document["error"]
    assert (error["reason"], error["exit_code"], error["work_began"]) == (reason, exit_code, False)
    assert error["violations"] == [{"field": "animate.motion", "description": "choose sway or zoom"}]
    assert ran.err.count("\n") == 1


def test_what_is_asked_wrongly_is_said_in_one_line_before_anything_runs(
    homeward: CommandLine, router: FakeRouter, photo: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.webp"
    empty, big = tmp_path / "empty.jpg", tmp_path / "big.jpg"
    empty.write_bytes(b"")
    with big.open("wb") as file:
        file.truncate(20 * 1024 * 1024)
    fifo, hard, soft = tmp_path / "fifo", tmp_path / "hard.jpg", tmp_path / "soft.jpg"
    os.mkfifo(fifo)
    hard.hardlink_to(photo)
    soft.symlink_to(photo)
    cases: list[tuple[list[object], str]] = [
        ([tmp_path / "missing.jpg", "-o", out], "No such file"),
        ([tmp_path, "-o", out], "is a folder"),
        ([empty, "-o", out], "is empty"),
        ([big, "-o", out], "12 MiB"),
        ([photo, "-o", tmp_path], "is a folder"),
        ([photo, "-o", tmp_path / "nowhere" / "out.webp"], "cannot write in"),
        ([photo, "-o", "/dev/null"], "no regular file"),
        ([photo, "-o", out, "--deadline", "60"], "write for example 60s"),
        ([photo, "-o", out, "--deadline", "0s"], "out of range"),
        ([photo, "-o", out, "--deadline", "11m"], "out of range"),
        ([photo, "-o", out, "--deadline", "٣s"], "write for example 60s"),
        ([photo, "-o", "-"], "name a file"),
        ([photo, "-o", tmp_path / ("x" * 256)], "File name too long"),
        ([fifo, "-o", out], "is empty"),
        ([photo, "-o", photo], "is the photo itself"),
        ([photo, "-o", hard], "is the photo itself"),
        ([soft, "-o", photo], "is the photo itself"),
        ([photo, "-o", out, "--strength", "3"], "animate.strength"),
        ([photo, "-o", out, "--seed", "-1"], "seed"),
        ([photo, "-o", out, "--request-id", "short"], "request_id"),
        ([photo], "Missing option"),
        ([photo, "-o", out, "--colour"], "No such option"),
    ]
    for arguments, expected in cases:
        ran = homeward("generate", *arguments, "--router", router.target)
        assert ran.code == 2, (arguments, ran)
        assert expected in ran.err, (arguments, ran)
        assert ran.err.count("\n") == 1, (arguments, ran)
        assert ran.out == ""
    for target in ("nonsense", "", "127.0.0.1:٣"):
        assert homeward("generate", photo, "-o", out, "--router", target).code == 2
    assert router.calls == 0
    assert folder_of(tmp_path) == ["big.jpg", "cat.jpg", "empty.jpg", "fifo", "hard.jpg", "soft.jpg"]


def test_a_photo_may_come_through_a_pipe_and_the_result_may_have_the_longest_name(router: FakeRouter, tmp_path: Path) -> None:
    out = tmp_path / ("x" * 250 + ".webp")
    arguments = [*ENTRY, "generate", "/dev/stdin", "-o", str(out), "--router", router.target]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        _, err = process.communicate(b"a photo", timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert router.requests[0].photo == b"a photo"
    assert out.read_bytes() == OUTPUT


def test_a_folder_without_permission_is_found_before_generating(
    homeward: CommandLine, router: FakeRouter, photo: Path, tmp_path: Path
) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    ran = homeward("generate", photo, "-o", closed / "out.webp", "--router", router.target)
    assert (ran.code, router.calls) == (2, 0)


def test_nobody_at_the_address(homeward: CommandLine, photo: Path, tmp_path: Path) -> None:
    ran = homeward("generate", photo, "-o", tmp_path / "out.webp", "--router", "127.0.0.1:1")
    assert ran.code == 1
    assert re.fullmatch(r"homeward: no router answers at 127.0.0.1:1: Connection refused \(request \S+\)\n", ran.err)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_cancels_the_job_and_leaves_nothing_behind(
    homeward: CommandLine, router: FakeRouter, photo: Path, tmp_path: Path, number: signal.Signals
) -> None:
    router.script = router.run_forever
    process = homeward.start("generate", photo, "-o", tmp_path / "out.webp", "--router", router.target)
    assert router.progressed.wait(PATIENCE_S)
    assert any(name.endswith(".part") for name in folder_of(tmp_path))
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert router.ended.wait(PATIENCE_S)
    assert (process.returncode, out) == (1, "")
    request_id = router.requests[0].request_id
    assert err.splitlines()[-1] == f"homeward: cancelled: the job was stopped and its slot is free (request {request_id})"
    assert "Traceback" not in err
    assert folder_of(tmp_path) == ["cat.jpg"]


def test_an_unknown_model_was_asked_wrongly(homeward: CommandLine, router: FakeRouter, photo: Path, tmp_path: Path) -> None:
    router.script = refuse(grpc.StatusCode.FAILED_PRECONDITION, "MODEL_UNAVAILABLE", "no worker serves model 'animte'")
    ran = homeward("generate", photo, "-o", tmp_path / "out.webp", "--router", router.target, "--model", "animte")
    assert (ran.code, ran.err) == (2, f"homeward: no worker serves model 'animte' (request {router.requests[0].request_id})\n")
