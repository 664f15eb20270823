"""`homeward up` and `homeward demo`: a whole fleet on this machine."""

import asyncio
import contextlib
import os
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from cli.failure import FAILED, Failure, asked_wrongly
from cli.operations import explanation_lines
from cli.options import JsonOption
from cli.progress import placed_text, waiting_text
from cli.terminal import note, say, say_json, say_milliseconds, say_table
from homeward import AsyncClient, Event, Explanation, HomewardError, Placed, Waiting
from localfleet import demo as demo_load
from localfleet.demo_page import write_page
from localfleet.plan import (
    METRICS_OFFSET,
    PORT_BASE,
    ROUTER_OFFSET,
    WORKERS_PER_REGION_MAX,
    FleetPlan,
    missing_package,
)
from localfleet.ports import PortTaken
from localfleet.session import run_fleet
from localfleet.state import FleetFile, FleetRunning, FleetState
from localfleet.stores import StoreUnavailable
from localfleet.supervisor import Fleet, FleetFailed, FleetMisconfigured, choose_store
from localfleet.topology import DEFAULT_REGIONS, TopologyError, check_regions

_PORT_BASE_HELP = (
    f"Routers listen at this port + {ROUTER_OFFSET}, {ROUTER_OFFSET + 1}, …; "
    f"their metrics at + {METRICS_OFFSET}, {METRICS_OFFSET + 1}, …"
)


def up(
    port_base: Annotated[int, typer.Option(min=1024, max=65000, help=_PORT_BASE_HELP)] = PORT_BASE,
    workers_per_region: Annotated[
        int, typer.Option(min=1, max=WORKERS_PER_REGION_MAX, help="Workers a region, one slot each.")
    ] = 2,
    regions: Annotated[str, typer.Option(help="Names, separated by commas.")] = ",".join(DEFAULT_REGIONS),
    emulate_rtt: Annotated[bool, typer.Option(help="Delay calls between regions by what an ocean costs.")] = True,
    policy: Annotated[Path | None, typer.Option(help="TOML file that overrides keys of the default policy.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Say in one JSON document where everything is, then go on.")] = False,
) -> None:
    """Start a fleet on this machine and keep it running until Ctrl-C.

    Per region: one router, one embedded Valkey (or the server that REDIS_URL names, for all), and workers that run the real
    model on the CPU. A worker, router or Valkey that dies is reported and not restarted: the rest goes on serving.
    """
    _check_packages()
    with _one_line_failures():
        names = [name.strip() for name in regions.split(",")]
        check_regions(names)
        policy_toml = _read_policy(policy)
        with contextlib.closing(FleetFile()) as file:
            plan = FleetPlan.make(
                regions=names,
                workers_per_region=workers_per_region,
                port_base=port_base,
                emulate_rtt=emulate_rtt,
                policy_toml=policy_toml,
            )
            fleet = _make_fleet(plan)
            started_at = time.monotonic()
            note(f"starting {len(plan.regions)} regions with {workers_per_region} workers each …")

            async def while_up(state: FleetState) -> None:
                file.write(state)
                if as_json:
                    say_json(_fleet_document(state))
                else:
                    _say_fleet(state, time.monotonic() - started_at)
                await fleet.serve()

            try:
                asyncio.run(run_fleet(fleet, while_up, lambda: note("stopping workers, routers, Valkeys … (Ctrl-C again kills)")))
            except FleetMisconfigured as error:
                # The router read a copy of the user's file.
                raise asked_wrongly(str(error).replace(str(fleet.policy_path), str(policy))) from error
    # It is kept when something in it died.
    note(f"stopped; the logs are in {fleet.folder}" if fleet.folder.exists() else "stopped")


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the animations and index.html.")] = Path("out"),
    photos: Annotated[Path | None, typer.Option(help="Folder of photos (.jpg, .png).", show_default="the examples")] = None,
    as_json: JsonOption = False,
) -> int:
    """Show the main job: real photos through three regional gateways, then a burst that overfills one region.

    Starts a fleet of its own on free ports (it can run beside `homeward up`), writes the animations, prints what happened to
    each request and why, and stops everything.
    """
    _check_packages()
    files = _find_photos(photos)
    out.mkdir(parents=True, exist_ok=True)
    with _one_line_failures():
        fleet = _make_fleet(FleetPlan.make(port_base=None, policy_toml=demo_load.POLICY_TOML))
        started_at = time.monotonic()
        note("starting a fleet: 3 regions, each a router, a Valkey and 2 workers …")

        async def while_up(state: FleetState) -> tuple[list[demo_load.DemoRow], Explanation | None]:
            note(f"up after {time.monotonic() - started_at:.1f} s; {demo_load.POLICY_NOTE}")
            calm, burst = demo_load.plan_requests([region.name for region in state.regions], files)
            note(f"\ncalm: one photo from each of {', '.join(request.home for request in calm)}")
            rows = await demo_load.send_all(state, calm, out, _note_event, _note_row)
            note(f"\nburst: {len(burst)} photos at once from {burst[0].home}, which has 2 slots")
            rows += await demo_load.send_all(state, burst, out, _note_event, _note_row)
            return rows, await _explain(state, demo_load.most_telling(rows))

        result = asyncio.run(run_fleet(fleet, while_up, lambda: note("\nstopping the fleet …")))
    if result is None:
        raise Failure("interrupted: the fleet was stopped", kind="Interrupted")
    rows, explanation = result
    page = write_page(rows, demo_load.summarise(rows), out)
    if as_json:
        say_json({"requests": [row.document() for row in rows], "summary": demo_load.summarise(rows), "page": str(page)})
    else:
        _say_demo(rows, explanation, page)
    return FAILED if any(row.finished is None for row in rows) else 0


def _check_packages() -> None:
    for extra in ("router", "worker"):
        missing = missing_package(extra)
        if missing is not None:
            raise Failure(f"{missing} (a whole fleet: 'homeward[fleet]')", kind="MissingPackage")


def _read_policy(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        text = path.read_text(encoding="utf-8")
        tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise asked_wrongly(f"cannot read the policy file {path}: {error}") from None
    return text


def _make_fleet(plan: FleetPlan) -> Fleet:
    return Fleet(plan, choose_store(os.environ.get("REDIS_URL")), note)


@contextlib.contextmanager
def _one_line_failures() -> Iterator[None]:
    """Translate what can go wrong with a fleet."""
    from localfleet.valkey import ValkeyUnavailable

    try:
        yield
    except (FleetFailed, PortTaken, StoreUnavailable, ValkeyUnavailable) as error:
        raise Failure(str(error), kind=type(error).__name__) from error
    except (TopologyError, FleetMisconfigured) as error:
        raise asked_wrongly(str(error)) from error
    except FleetRunning as error:
        raise Failure("a local fleet is already running: stop it first (Ctrl-C in its terminal)", kind="FleetRunning") from error


def _find_photos(folder: Path | None) -> list[Path]:
    """Return the photos to send. Raises `Failure` when there is none."""
    beside_code = Path(__file__).parent.parent / "examples"
    for candidate in [folder] if folder is not None else [Path("examples"), beside_code]:
        found = sorted(path for path in candidate.glob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
        if found:
            return found
    raise asked_wrongly(f"no photo in {folder or 'examples'}: name a folder of .jpg files with --photos")


def _fleet_document(state: FleetState) -> dict[str, object]:
    regions = [
        {
            "region": region.name,
            "router": region.router,
            "metrics": f"http://{region.metrics}/metrics",
            "redis_url": region.redis_url,
            "workers": [worker.name for worker in region.workers],
        }
        for region in state.regions
    ]
    return {"pid": state.pid, "logs": state.folder, "regions": regions}


def _say_fleet(state: FleetState, took_s: float) -> None:
    first = state.regions[0]
    say(f"the fleet is up after {took_s:.1f} s\n")
    columns = ("region", "router", "metrics", "Valkey", "workers")
    rows = [
        (
            region.name,
            region.router,
            f"http://{region.metrics}/metrics",
            region.redis_url,
            ", ".join(worker.name for worker in region.workers),
        )
        for region in state.regions
    ]
    say_table(columns, rows, names=frozenset({"region", "router"}), leave_out=("Valkey", "metrics"))
    say(f"logs are in {state.folder}\n\nTry in another terminal:")
    say(f"  homeward generate examples/cat.jpg -o cat.webp --motion sway --region {state.regions[-1].name}")
    say("  homeward regions")
    say("  homeward workers")
    say(f"  homeward explain REQUEST_ID\n\nGateways talk gRPC to their region's router, for example {first.router}.")
    say("Ctrl-C stops everything.")


def _note_event(request: demo_load.DemoRequest, event: Event) -> None:
    match event:
        case Waiting():
            note(f"  {request.name}: {waiting_text(event)}")
        case Placed():
            note(f"  {request.name}: {placed_text(event)}")
        case _:
            pass


def _note_row(row: demo_load.DemoRow) -> None:
    took = say_milliseconds(row.finished.total_ms) if row.finished is not None else str(row.error)
    note(f"  {row.request.name}: {row.outcome}, {took}")


async def _explain(state: FleetState, row: demo_load.DemoRow | None) -> Explanation | None:
    """Ask the home router for the story of a spilled request."""
    if row is None:
        return None
    home = state.region(row.request.home)
    assert home is not None
    async with AsyncClient(home.router) as client:
        with contextlib.suppress(HomewardError):
            return await client.explain(row.request_id)
    return None


def _say_demo(rows: list[demo_load.DemoRow], explanation: Explanation | None, page: Path) -> None:
    columns = ("request", "home", "served", "attempts", "wait", "start delay", "run time", "outcome")
    cells = []
    for row in rows:
        done = row.finished
        measured: tuple[str, ...] = ("",) * 5
        if done is not None:
            times = (done.wait_ms, done.start_delay_ms, done.run_ms)
            measured = (done.served_region, str(done.attempts), *map(say_milliseconds, times))
        # Its words, so that it can fold: with that the whole table fits a terminal of 80 columns.
        cells.append((row.request.name.replace("-", " "), row.request.home, *measured, row.outcome))
    say_table(
        columns,
        cells,
        names=frozenset({"home", "served", "outcome"}),
        numbers=frozenset({"attempts", "wait", "start delay", "run time"}),
    )
    say("")
    for line in demo_load.summarise(rows):
        say(line)
    if explanation is not None:
        say("\nWhy one request left home (`homeward explain`, while its fleet runs):\n")
        for line in explanation_lines(explanation):
            say(f"  {line}".rstrip())
    say(f"\nLook at {page} in a browser: every animation with its row.")
    say("Next: `homeward up` keeps a fleet running, `homeward generate PHOTO -o OUT.webp` uses it.")
