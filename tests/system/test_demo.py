"""`homeward demo`: the first thing a new user sees, from start to end."""

import contextlib
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from .command_line import CommandLine
from .patience import until
from .pictures import frames_of
from .processes import alive_of, descendants

DEMO_S_MAX = 180.0
"""`make demo` has four minutes with the installation."""


@pytest.mark.timeout(200)
def test_the_demo_shows_everything_and_leaves_nothing_running(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = CommandLine(tmp_path / "state", tmp_path)
    out = tmp_path / "animations"
    began_s = time.monotonic()
    process = alone.start("demo", "--out", out)
    pids: set[int] = set()
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(1.0):
            pids.update(descendants(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        table, progress = process.communicate(timeout=DEMO_S_MAX)
    finally:
        is_over.set()
        watcher.join()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.terminate()
            process.communicate(timeout=20)
        process.kill()
    took_s = time.monotonic() - began_s
    assert process.returncode == 0, progress
    up_after = re.search(r"up after ([0-9.]+) s", progress)
    assert up_after is not None
    with capsys.disabled():
        sys.stdout.write(f"\n    homeward demo: {took_s:.1f} s, its fleet was up after {up_after[1]} s\n")

    animations = sorted(out.glob("*.webp"))
    assert len(animations) == 15, progress
    assert len([path for path in animations if path.name.startswith("burst-")]) == 12
    for path in animations:
        assert len(frames_of(path.read_bytes())) > 1, path.name
    page = (out / "index.html").read_text()
    assert all(path.name in page for path in animations)
    assert re.search(r"(https?:)?//[a-z]", page) is None, "the page asks nobody"
    assert "<script" not in page

    lines = table.splitlines()
    header = lines[0].split()
    assert [word for word in header if word in ("request", "home", "served", "attempts", "wait", "outcome")] == [
        "request", "home", "served", "attempts", "wait", "outcome",
    ]  # fmt: skip
    rows = [line for line in lines if line.startswith(("calm ", "burst "))]
    assert len(rows) == sum(row.rstrip().endswith(" OK") for row in rows) == 15, table
    assert "Calm: 3 of 3 requests were served in their home region." in table
    spilled = re.search(r"Burst: 12 requests at us-east at once; \d+ ran there, (\d+) spilled", table)
    assert spilled is not None
    assert int(spilled[1]) > 0
    for shown in ("Backoff: ", "Marginal execution delay: ", "[HOME_FIRST]", "[RING_UNLOCKED]", "Look at "):
        assert shown in table, shown
    assert "FAILED" not in table
    assert "Traceback" not in progress

    assert len(pids) >= 3 * 4
    until(lambda: not alive_of(pids), "no process is left")
    assert not list(tmp_path.glob("homeward-*")), "its logs and topology are removed"
