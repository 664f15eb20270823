"""What the tests of the router share: a Valkey, a router on it, a photo."""

from collections.abc import AsyncIterator, Iterator

import pytest

from localfleet.valkey import EmbeddedValkey, ValkeyUnavailable
from tests.router.photos import png
from tests.router.stand import Stand, fresh_region, open_stand, settings_of


@pytest.fixture(scope="session")
def valkey() -> Iterator[EmbeddedValkey]:
    """One Valkey for all tests that do not break it; each uses region names of its own."""
    try:
        with EmbeddedValkey() as server:
            yield server
    except ValkeyUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def breakable_valkey() -> Iterator[EmbeddedValkey]:
    """A Valkey that the test may kill and start again on its port."""
    try:
        with EmbeddedValkey() as server:
            port = server.port
        with EmbeddedValkey(port) as server:
            yield server
    except ValkeyUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture
async def stand(valkey: EmbeddedValkey) -> AsyncIterator[Stand]:
    """A router of a region that is alone."""
    async with open_stand(settings_of(fresh_region(), valkey.url)) as opened:
        yield opened


@pytest.fixture(scope="session")
def photo() -> bytes:
    """A small sound photo."""
    return png()
