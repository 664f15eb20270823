"""Servers of one's own: when they count as there, and when as gone."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from localfleet import stores
from localfleet.stores import ExternalStore, wait_gone
from localfleet.valkey import EmbeddedValkey, ValkeyUnavailable

from .fake_fleet import PATIENCE_S


class Host:
    """A server that ends each connection as `end` says, and counts them."""

    def __init__(self, end: Callable[[asyncio.StreamWriter], object], idle_s: float) -> None:
        self.connections = 0
        self._end = end
        self._idle_s = idle_s

    async def serve(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await asyncio.sleep(self._idle_s)
        self._end(writer)
        with contextlib.suppress(OSError):
            writer.close()
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def serving(host: Host) -> AsyncIterator[tuple[asyncio.Server, str]]:
    server = await asyncio.start_server(host.serve, "127.0.0.1", 0)
    try:
        yield server, f"redis://:secret@127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        server.close()
        await server.wait_closed()


async def reaches(host: Host, connections: int) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while host.connections < connections:
        assert time.monotonic() < give_up_at, "it did not happen"
        await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "REPROBE_PAUSE_S", 0.02)
    monkeypatch.setattr(stores, "PROBE_S_MIN", 0.05)


@pytest.mark.parametrize(
    ("end", "idle_s"),
    [
        (lambda writer: None, 0.1),  # an idle timeout
        (lambda writer: writer.transport.abort(), 0.1),  # the same, rudely
        (lambda writer: writer.write(b"-ERR max number of clients reached\r\n"), 0.0),
    ],
)
async def test_a_server_that_ends_idle_connections_is_there_until_it_is_gone(
    end: Callable[[asyncio.StreamWriter], object], idle_s: float
) -> None:
    host = Host(end, idle_s)
    async with serving(host) as (server, url):
        watch = asyncio.create_task(wait_gone(url))
        await reaches(host, 2 * stores.REPROBES_MAX)
        assert not watch.done()
        server.close()
        await asyncio.wait_for(watch, PATIENCE_S)


async def test_a_door_without_a_server_behind_it_is_gone() -> None:
    host = Host(lambda writer: None, 0.0)  # a forwarder whose server died
    async with serving(host) as (_, url):
        await asyncio.wait_for(wait_gone(url), PATIENCE_S)
    assert host.connections == stores.REPROBES_MAX


async def test_a_unix_socket_is_probed_as_one(tmp_path: Path) -> None:
    path = tmp_path / "a server.sock"
    host = Host(lambda writer: None, 0.1)
    server = await asyncio.start_unix_server(host.serve, path)
    url = f"unix://:secret@{str(path).replace(' ', '%20')}"
    await asyncio.to_thread(ExternalStore(url).start)
    watch = asyncio.create_task(wait_gone(url))
    await reaches(host, 4)
    assert not watch.done()
    server.close()
    await server.wait_closed()
    await asyncio.wait_for(watch, PATIENCE_S)


async def test_a_valkey_with_an_idle_timeout_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "PROBE_S_MIN", 0.5)
    try:
        valkey = EmbeddedValkey().start()
    except ValkeyUnavailable as error:
        pytest.skip(str(error))
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", valkey.port)
        writer.write(b"CONFIG SET timeout 1\r\n")
        assert await reader.readline() == b"+OK\r\n"
        watch = asyncio.create_task(wait_gone(valkey.url))
        assert await asyncio.wait_for(reader.read(1), PATIENCE_S) == b"", "it ended an idle connection"
        writer.close()
        await asyncio.wait({watch}, timeout=1.5)
        assert not watch.done()
        valkey.kill()
        await asyncio.wait_for(watch, PATIENCE_S)
    finally:
        valkey.stop()
