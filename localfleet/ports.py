"""TCP ports on this machine: is one free, and give me some."""

import socket
from collections.abc import Iterable

HOST = "127.0.0.1"


class PortTaken(Exception):
    """Somebody else listens there."""

    def __init__(self, port: int, what: str) -> None:
        super().__init__(f"port {port} is taken, {what} needs it: choose others with --port-base (default 7400)")
        self.port = port


def check_free(ports: Iterable[tuple[int, str]]) -> None:
    """Raise `PortTaken` for the first of (port, who needs it) on which something listens.

    Routers refuse a taken port themselves (their `so_reuseport` is 0), but seconds later and in a log. Asked before anything
    starts, the answer is one line with a way out.
    """
    for port, what in ports:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            # Ports of connections that are just closing do not count as taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                raise PortTaken(port, what) from error


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago, all different."""
    probes = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
