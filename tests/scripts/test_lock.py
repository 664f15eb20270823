"""The lock file: names and exact versions, nothing of the machine that made it."""

import re
from pathlib import Path

import pytest

from scripts.lock import read_pins

ROOT = Path(__file__).parents[2]


def lines_of(name: str) -> list[str]:
    return [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]


def test_the_lock_has_exact_versions_and_no_place() -> None:
    lines = lines_of("requirements.lock")
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9A-Za-z.!]*", line) for line in lines)
    names = [line.partition("==")[0] for line in lines]
    assert names == sorted(set(names), key=lambda name: f"{name}==")
    assert "torch" not in names
    assert lines_of("constraints-cpu.txt") == ["torch==2.13.0"]


def test_a_build_of_one_machine_is_refused() -> None:
    def package(name: str, version: str) -> dict[str, dict[str, str]]:
        return {"metadata": {"name": name, "version": version}}

    report = {"install": [package("torch", "2.13.0+cpu"), package("Typing_Extensions", "4.16.0"), package("homeward", "0.1.0")]}
    assert read_pins(report) == ["typing-extensions==4.16.0"]
    with pytest.raises(SystemExit):
        read_pins({"install": [package("numpy", "2.4.6+local")]})
