"""The slot ledgers' servers: one embedded Valkey a region, or the server that `REDIS_URL` names, for all of them.

One server can serve every region, since each region's keys carry its own hash tag.
"""

import asyncio
import contextlib
import re
import socket
from typing import Protocol
from urllib.parse import unquote, urlsplit

CONNECT_TIMEOUT_S = 3.0
PORT_DEFAULT = 6379
REPROBES_MAX = 3
"""A server is gone when it failed so many probes in a row."""
REPROBE_PAUSE_S = 0.3
"""Death is reported about a second late; a server that closes every connection is asked three times a second at most."""
PROBE_S_MIN = 0.5
"""A connection that lives this long had a living server behind it: the shortest idle timeout of Valkey is 1 s."""
_PASSWORD = re.compile(r"^([^:/]+://[^:@/]*):.*@", re.DOTALL)  # up to the last @: a password may have one, though it should not


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
    """The server that REDIS_URL names does not answer, or it names none. One line."""


class ExternalStore:
    """A server that somebody else runs."""

    pid = None

    def __init__(self, url: str) -> None:
        self.url = url

    def start(self) -> None:
        """Check that something listens there. Raises `StoreUnavailable`. Blocks."""
        place = _place_of(self.url)
        try:
            if isinstance(place, str):
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                    probe.settimeout(CONNECT_TIMEOUT_S)
                    probe.connect(place)
            else:
                socket.create_connection(place, CONNECT_TIMEOUT_S).close()
        except OSError as error:
            where = place if isinstance(place, str) else f"{place[0]}:{place[1]}"
            reason = error.strerror or str(error)
            raise StoreUnavailable(f"no server answers at {where}, which REDIS_URL names: {reason}") from error

    def stop(self) -> None:
        """Leave it alone."""


def database_url(url: str) -> str:
    """Return the URL with a database: the first one unless it names one."""
    return url if urlsplit(url).path.strip("/") else url.rstrip("/") + "/0"


def mask_password(url: str) -> str:
    """Return the URL as it may be shown."""
    return _PASSWORD.sub(r"\1:***@", url)


async def wait_gone(url: str) -> None:
    """Return when the server at `url` is gone: it ended an idle connection, and then did not hold another one.

    The kernel closes the connection however the server died, so nothing has to be polled. A server with an idle timeout closes
    it too, and takes the next.
    """
    failures = 0
    while failures < REPROBES_MAX:
        failures = 0 if await _outlives_probe(url) else failures + 1
        await asyncio.sleep(REPROBE_PAUSE_S)


async def _outlives_probe(url: str) -> bool:
    """Hold an idle connection until it ends. Returns whether a living server was at its other end."""
    now_s = asyncio.get_running_loop().time
    try:
        reader, writer = await asyncio.wait_for(_connect(url), CONNECT_TIMEOUT_S)
    except OSError:
        return False
    since_s = now_s()
    said = b""
    try:
        with contextlib.suppress(OSError):
            said = await reader.read(1)  # a server that has too many clients says so
    finally:
        writer.close()
    return said != b"" or now_s() - since_s >= PROBE_S_MIN


async def _connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    place = _place_of(url)
    if isinstance(place, str):
        return await asyncio.open_unix_connection(place)
    return await asyncio.open_connection(*place)


def _place_of(url: str) -> tuple[str, int] | str:
    """Return host and port, or the path of a Unix socket. Raises `StoreUnavailable`, which shows nothing of a URL gone wrong."""
    try:
        parts = urlsplit(url)
        host, port, path = parts.hostname or "127.0.0.1", parts.port or PORT_DEFAULT, unquote(parts.path)
    except ValueError:
        raise StoreUnavailable("REDIS_URL is no URL with a host and a port: write for example redis://127.0.0.1:6379/0") from None
    if parts.scheme == "unix" and path:
        return path
    if parts.scheme in ("redis", "rediss"):
        return host, port
    raise StoreUnavailable("REDIS_URL must start with redis:// or rediss://, or be unix:// and the path of a socket")
