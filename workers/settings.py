"""What a worker process is told on its command line, checked before anything is loaded."""

import argparse
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from workers.identity import NAME_PATTERN
from workers.model import LOADERS

SLOTS_MAX = 1_024
"""The contract's bound (`RegisterWorker.slots`)."""

THREADS_MAX = 256
ROUTERS_MAX = 64
DRAIN_S_MAX = 3_600.0
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """One worker process."""

    region: str
    routers: tuple[str, ...]
    """host:port of routers of the region, tried in turn."""
    worker: str
    """Name, unique in the region."""
    slots: int = 1
    """Jobs at once."""
    listen_host: str = "127.0.0.1"
    listen_port: int = 0
    """0: any free port."""
    advertise: str | None = None
    """host:port as routers and gateways reach the worker; None: where it listens."""
    models: tuple[str, ...] = ("animate",)
    threads: int = 1
    """CPU threads of one job."""
    drain_s: float = 120.0
    """Running jobs get this long to finish after a signal."""
    log_level: int = logging.INFO


class _OneLineParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line and exit with 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")


def parse_settings(arguments: Sequence[str]) -> WorkerSettings:
    """Return the settings of a command line. Exits with 2 and one line when they are wrong."""
    parser = _OneLineParser(
        prog="homeward worker",
        description="A GPU worker: attaches to its region's router and runs the jobs it is granted.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--region", required=True, type=_name, metavar="REGION", help="region this worker belongs to")
    add("--router", required=True, type=_address, action="append", metavar="HOST:PORT", help="router of the region; repeatable")
    add("--name", required=True, type=_name, metavar="NAME", help="name, unique in the region")
    add("--slots", default=1, type=_whole(1, SLOTS_MAX), metavar="N", help="jobs at once (default 1)")
    add("--listen", default="127.0.0.1:0", type=_address, metavar="HOST:PORT", help="where to serve; port 0 picks one")
    add("--advertise", type=_address, metavar="HOST:PORT", help="address that others use (default: where it listens)")
    add("--model", action="append", choices=sorted(LOADERS), help="model to load; repeatable (default animate)")
    add("--threads", default=1, type=_whole(1, THREADS_MAX), metavar="N", help="CPU threads for one job (default 1)")
    add("--drain-s", default=120.0, type=_drain_s, metavar="S", help="time for running jobs after SIGTERM (default 120)")
    add("--log-level", default="info", choices=LOG_LEVELS)
    given = parser.parse_args(arguments)
    if len(given.router) > ROUTERS_MAX:
        parser.error(f"argument --router: at most {ROUTERS_MAX}")
    listen_host, listen_port = _split(given.listen)
    if given.advertise is None and listen_host in ("0.0.0.0", "[::]", "::"):
        parser.error(f"argument --advertise: needed, because others cannot reach {listen_host}")
    if given.advertise is not None and _split(given.advertise)[1] == 0:
        parser.error("argument --advertise: the port must not be 0")
    return WorkerSettings(
        region=given.region,
        routers=tuple(given.router),
        worker=given.name,
        slots=given.slots,
        listen_host=listen_host,
        listen_port=listen_port,
        advertise=given.advertise,
        models=tuple(dict.fromkeys(given.model or ["animate"])),
        threads=given.threads,
        drain_s=given.drain_s,
        log_level=getattr(logging, given.log_level.upper()),
    )


def _name(text: str) -> str:
    if not NAME_PATTERN.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not 1 to 64 characters of A-Z a-z 0-9 . _ -")
    return text


def _address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    bare_ipv6 = ":" in host and not (host.startswith("[") and host.endswith("]"))
    if not colon or not host or bare_ipv6 or not (port.isascii() and port.isdigit() and int(port) <= 65_535):
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not HOST:PORT")
    return text


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 9 and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"{text[:80]!r} is not a whole number from {least} to {most}")
        return int(text)

    return parse


def _drain_s(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds <= DRAIN_S_MAX:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not a number of seconds from 0 to {DRAIN_S_MAX:g}")
    return seconds
