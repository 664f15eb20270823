"""Ledgers under test: the plain one, and the real one on every kind of server that this machine has."""

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from localfleet.valkey import EmbeddedValkey, ValkeyUnavailable
from router.capacity.ledger import LedgerTimings
from tests.router.capacity.stands import PATIENT_US, REGIONS, Stand, clocked_stand, plain_stand

SERVERS = ["embedded", *(["redis-server"] if shutil.which("redis-server") else [])]


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[str], EmbeddedValkey]]:
    """Starts each kind of server once, when it is first asked for."""
    running: dict[str, EmbeddedValkey] = {}

    def server(kind: str) -> EmbeddedValkey:
        if kind not in running:
            path = shutil.which("redis-server") if kind == "redis-server" else None
            try:
                running[kind] = EmbeddedValkey(binary=Path(path) if path else None).start()
            except ValkeyUnavailable as error:
                pytest.skip(str(error))
        return running[kind]

    yield server
    for one in running.values():
        one.stop()


@pytest.fixture(params=SERVERS)
def url(servers: Callable[[str], EmbeddedValkey], request: pytest.FixtureRequest) -> str:
    """A server's URL, for each kind of server here."""
    return servers(request.param).url


@pytest.fixture
def own_server() -> Iterator[EmbeddedValkey]:
    """A server that the test may break."""
    try:
        with EmbeddedValkey() as server:
            yield server
    except ValkeyUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def region() -> str:
    """A region name that no other test uses."""
    return next(REGIONS)


@pytest.fixture(params=["plain", *SERVERS])
async def stand(
    servers: Callable[[str], EmbeddedValkey], region: str, request: pytest.FixtureRequest
) -> AsyncIterator[Stand]:
    """Every kind of ledger, opened and past its rebuild, with the timings' defaults."""
    timings = LedgerTimings(call_timeout_us=PATIENT_US)
    kind = request.param
    stand = plain_stand(timings) if kind == "plain" else clocked_stand(servers(kind).url, timings, region)
    await stand.ledger.open()
    await stand.advance(timings.rebuild_us)
    yield stand
    await stand.ledger.close()
