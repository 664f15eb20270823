"""Which router a command talks to: `--router`, else `HOMEWARD_ROUTER`, else the running local fleet."""

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass

from cli.failure import Failure, asked_wrongly
from localfleet.state import read_fleet

NO_FLEET = "no local fleet is running: start one with `homeward up`, or name a router with --router HOST:PORT"


@dataclass(frozen=True, slots=True)
class RouterChoice:
    """A router to talk to."""

    target: str
    """host:port."""
    region: str
    """Its region; empty when the user named an address and no region."""


def choose_router(router: str | None, region: str | None) -> RouterChoice:
    """Return the router of a region, or the one named. Raises `Failure`."""
    named = _named_router(router)
    if named is not None:
        return RouterChoice(check_address(named), region or "")
    choices = _fleet_routers()
    if region is None:
        return choices[0]
    for choice in choices:
        if choice.region == region:
            return choice
    raise asked_wrongly(unknown_region(region, [choice.region for choice in choices]))


def all_routers(router: str | None) -> list[RouterChoice]:
    """Return every router of the local fleet, or the one named. Raises `Failure`."""
    named = _named_router(router)
    return [RouterChoice(check_address(named), "")] if named is not None else _fleet_routers()


def unknown_region(region: str, known: Sequence[str]) -> str:
    """Say that there is no such region, which ones there are, and the nearest spelling."""
    near = difflib.get_close_matches(region, known, n=1)
    hint = f": did you mean {near[0]}?" if near else "."
    return f"unknown region {region!r}{hint} The regions are {', '.join(known)}"


def check_address(text: str) -> str:
    """Return a host:port. Raises `Failure` for something else."""
    host, separator, port = text.rpartition(":")
    if not separator or not host or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65536 or "/" in host:
        raise asked_wrongly(f"{text!r} is no router address: write HOST:PORT, for example 127.0.0.1:7411")
    return text


def _named_router(router: str | None) -> str | None:
    """Return the address that the user gave. An empty HOMEWARD_ROUTER is none, an empty --router is a wrong one."""
    return router if router is not None else os.environ.get("HOMEWARD_ROUTER") or None


def _fleet_routers() -> list[RouterChoice]:
    fleet = read_fleet()
    if fleet is None:
        raise Failure(NO_FLEET, kind="NoFleet")
    return [RouterChoice(region.router, region.name) for region in fleet.regions]
