"""One fleet for all tests of the whole system; each test finds it whole and free."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .command_line import CommandLine
from .running_fleet import RunningFleet


@pytest.fixture(scope="session")
def _started_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFleet]:
    running = RunningFleet(tmp_path_factory.mktemp("fleet"))
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def fleet(_started_fleet: RunningFleet) -> Iterator[RunningFleet]:
    """The shared fleet, repaired. Whatever is done to it, no router and no worker may log a defect."""
    _started_fleet.repair()
    known = _started_fleet.defects()
    yield _started_fleet
    defects = _started_fleet.defects() - known
    assert not defects, "\n".join(sorted(defects))


@pytest.fixture
def homeward(fleet: RunningFleet, tmp_path: Path) -> CommandLine:
    """The command of a user on the machine of the shared fleet."""
    return CommandLine(fleet.state_home, tmp_path)
