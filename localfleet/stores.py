"""The slot ledgers' servers: one embedded Valkey a region, or the server that `REDIS_URL` names, for all of them.

One server can serve every region, since each region's keys carry its own hash tag.
"""

import asyncio
import contextlib
import socket
from typing import Protocol
from urllib.parse import urlsplit

CONNECT_TIMEOUT_S = 3.0


class Store(Protocol):
    """One server as the supervisor sees it. `localfleet.valkey.EmbeddedValkey` is one."""

    @property
    def url(self) -> str:
        """redis://host:port."""

    @property
    def pid(self) -> int | None:
        """Its process; None when it is not ours."""

    def start(self) -> object:
        """Start it and wait until it answers. Blocks."""

    def stop(self) -> None:
        """Stop it. Harmless when it is gone. Blocks."""


class StoreUnavailable(Exception):
    """The server that REDIS_URL names does not answer. One line."""


class ExternalStore:
    """A server that somebody else runs."""

    pid = None

    def __init__(self, url: str) -> None:
        self.url = url

    def start(self) -> None:
        """Check that something listens there. Raises `StoreUnavailable`. Blocks."""
        host, port = _address(self.url)
        try:
            socket.create_connection((host, port), CONNECT_TIMEOUT_S).close()
        except OSError as error:
            reason = error.strerror or str(error)
            raise StoreUnavailable(f"no server answers at {host}:{port}, which REDIS_URL names: {reason}") from error

    def stop(self) -> None:
        """Leave it alone."""


def database_url(url: str) -> str:
    """Return the URL with a database: the first one unless it names one."""
    return url if urlsplit(url).path.strip("/") else url.rstrip("/") + "/0"


async def wait_gone(url: str) -> None:
    """Return when the server at `url` closes an idle connection, which it does when it ends.

    The kernel closes it however the server died, so nothing has to be polled.
    """
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection(*_address(url))
        try:
            await reader.read(1)
        finally:
            writer.close()


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "127.0.0.1", parts.port or 6379
