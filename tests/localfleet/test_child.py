"""One child: its log, its ready line, its end."""

import os
import sys
from pathlib import Path

import pytest

from localfleet.child import LINE_BYTES_MAX, TROUBLE_LINES_MAX, Child, ChildDied, ChildLog

from .fake_fleet import is_alive, wait_until


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_log_is_bounded(tmp_path: Path) -> None:
    log = ChildLog(tmp_path / "child.log", bytes_max=1000)
    for number in range(500):
        log.write(b"line %03d" % number)
    log.write(b"  ")
    log.close()
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) <= 1010
    assert log.last_line == "line 499"


def test_trouble_tells_more_than_the_routine_after_it(tmp_path: Path) -> None:
    log = ChildLog(tmp_path / "child.log")
    said = [b"10:00:00 WARNING old", b"10:00:01 ERROR worker=a the slot is gone", b"10:00:02 INFO worker=a ended", b"Killed"]
    for line in said[:3]:
        log.write(line)
    assert log.last_words == "10:00:01 ERROR worker=a the slot is gone"
    log.write(said[3])
    assert log.last_words == "Killed"
    for _ in range(TROUBLE_LINES_MAX):
        log.write(said[2])
    assert log.last_words == log.last_line == "10:00:02 INFO worker=a ended"
    log.close()


async def test_the_ready_line_is_found_among_others(tmp_path: Path) -> None:
    code = """
import sys, time
print("hello"); print("{not json"); print('{"ready": false}'); print("[]", flush=True)
print('{"ready": true, "address": "127.0.0.1:9"}', flush=True)
sys.stderr.write("x" * 100000 + "\\nlast words"); sys.stderr.flush()
"""
    child = await Child.start("child", python(code), os.environ, tmp_path)
    assert (await child.wait_ready(10))["address"] == "127.0.0.1:9"
    await child.wait_ended()
    assert await child.stop(5)
    assert child.log.last_line == "last words"
    lines = (tmp_path / "child.log").read_bytes().splitlines()
    assert max(map(len, lines)) <= LINE_BYTES_MAX
    assert b"hello" in lines


async def test_a_child_that_ends_first_says_why(tmp_path: Path) -> None:
    child = await Child.start("child", python("import sys; print('a'); sys.exit(7)"), os.environ, tmp_path)
    with pytest.raises(ChildDied, match=r"child died \(exit code 7\); its last log line: a"):
        await child.wait_ready(10)
    await child.stop(1)


async def test_what_a_child_started_goes_with_it(tmp_path: Path) -> None:
    code = """
import subprocess, sys, time
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print('{"ready": true, "other": %d}' % other.pid, flush=True)
time.sleep(60)
"""
    child = await Child.start("child", python(code), os.environ, tmp_path)
    other = (await child.wait_ready(10))["other"]
    assert other != child.pid
    await child.stop(5)
    wait_until(lambda: not is_alive(other))
