"""`homeward regions`, `homeward workers`, `homeward explain`: what operators ask."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from cli.failure import Failure, asked_wrongly
from cli.options import JsonOption, RouterOption
from cli.routers import RouterChoice, all_routers, choose_router
from cli.terminal import note, say, say_json, say_milliseconds, say_table
from homeward import Client, Decision, Explanation, HomewardError, NotFound, Region, RouterUnavailable, Workers


def regions(
    router: RouterOption = None,
    region: Annotated[str | None, typer.Option(help="Ask the router of this region.", show_default="the fleet's first")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show every region as one router sees it: slots, load, who waits, and how old the numbers are."""
    choice = choose_router(router, region)
    with Client(choice.target) as client:
        seen = client.regions()
    if choice.region not in ("", seen.home_region):
        # As its router answers `generate` in this case.
        raise asked_wrongly(f"the region is {choice.region!r}, but the router at {choice.target} serves {seen.home_region!r}")
    if as_json:
        say_json({"home_region": seen.home_region, "regions": [region_document(one) for one in seen.regions]})
        return
    columns = ("region", "ring", "rtt", "slots", "busy", "free", "offered", "load", "waiting", "age", "state")
    rows = [
        (
            one.region,
            str(one.ring),
            f"{one.rtt_ms:.0f} ms",
            str(one.slots),
            str(one.busy),
            str(one.free),
            str(one.offered),
            f"{one.load:.0%}",
            str(one.waiting),
            _age_text(one.snapshot_age_ms),
            "usable" if one.usable else one.trouble or "not usable",
        )
        for one in seen.regions
    ]
    say_table(
        columns,
        rows,
        names=frozenset({"region"}),
        numbers=frozenset(columns) - {"region", "state"},
        leave_out=("ring", "offered", "age", "rtt", "waiting", "free"),
    )
    note(f"as seen from {seen.home_region}")


def workers(router: RouterOption = None, as_json: JsonOption = False) -> None:
    """Show every worker: its slots, what it has loaded, how fast it runs, and its lease."""
    answers: list[Workers] = []
    silent: list[dict[str, str]] = []
    for choice in all_routers(router):
        try:
            with Client(choice.target) as client:
                answers.append(client.workers())
        except HomewardError as error:
            silent.append({"router": choice.target, "region": choice.region, "message": error.message})
    if not answers:
        raise Failure("; ".join(map(_silence_text, silent)), kind="RouterUnavailable")
    if as_json:
        say_json({"regions": [asdict(answer) for answer in answers], "unreachable": silent})
        return
    columns = ("region", "worker", "state", "slots", "busy", "run time", "lease left", "variants", "address")
    rows = [
        (
            answer.region,
            one.worker,
            one.state,
            str(one.slots),
            str(one.busy),
            say_milliseconds(one.service_ms) if one.service_ms else "unknown",
            say_milliseconds(one.lease_left_ms),
            ", ".join(one.variants),
            one.address,
        )
        for answer in answers
        for one in answer.workers
    ]
    say_table(
        columns,
        rows,
        names=frozenset({"region", "worker"}),
        numbers=frozenset({"slots", "busy", "run time", "lease left"}),
        leave_out=("address", "variants", "lease left", "run time", "busy"),
    )
    for one in silent:
        note(_silence_text(one))


def explain(
    request_id: Annotated[str, typer.Argument(metavar="REQUEST_ID", help="As `homeward generate` printed it.", show_default=False)],
    router: RouterOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell the story of one request: every decision, why it was taken, and the numbers it saw.

    Asks every router of the local fleet until one knows the request. Routers remember a bounded number of requests.
    """
    explanation = find_explanation(request_id, all_routers(router))
    if as_json:
        say_json({**asdict(explanation), "outcome": explanation.outcome.value})
        return
    for line in explanation_lines(explanation):
        say(line)


def find_explanation(request_id: str, choices: list[RouterChoice]) -> Explanation:
    """Ask one router after the other. Raises `Failure` when none knows the request."""
    silent: list[str] = []
    for choice in choices:
        try:
            with Client(choice.target) as client:
                return client.explain(request_id)
        except NotFound:
            continue
        except RouterUnavailable as error:
            silent.append(_silence_text({"region": choice.region, "message": error.message}))
    asked = ", ".join(choice.region or choice.target for choice in choices)
    but = f"; {'; '.join(silent)}" if silent else ""
    raise Failure(f"no router has a record of request {request_id} (asked {asked}){but}", kind="NotFound")


def region_document(region: Region) -> dict[str, Any]:
    """Return a region with its sums, as `--json` shows it."""
    sums = {
        "slots": region.slots,
        "busy": region.busy,
        "free": region.free,
        "offered": region.offered,
        "load": round(region.load, 4),
    }
    facts = asdict(region)
    pools = facts.pop("pools")
    return {"region": facts.pop("region"), **sums, **facts, "pools": pools}


def explanation_lines(explanation: Explanation) -> list[str]:
    """Return the story as lines of at most 100 columns."""
    arrived = datetime.fromtimestamp(explanation.arrived_unix_us / 1e6, UTC)
    outcome = "still running" if explanation.outcome.value == "UNSPECIFIED" else explanation.outcome.value
    served = f", served by {explanation.served_region}" if explanation.served_region else ""
    lines = [
        f"request {explanation.request_id}: {outcome}{served}",
        f"model {explanation.model}, home {explanation.home_region}, arrived {arrived:%Y-%m-%d %H:%M:%S} UTC",
    ]
    for decision in explanation.decisions:
        lines += ["", *_decision_lines(decision)]
    return lines


def _decision_lines(decision: Decision) -> list[str]:
    happened = decision.event + (f" ({decision.refusal})" if decision.refusal else "")
    command = f"{decision.command} {decision.region}".strip()
    numbers = [f"round {decision.attempt}", f"home load {decision.home_load:.0%}", f"pressure {decision.pressure:.0%}"]
    numbers += [f"share {decision.share:.0%}", f"draw {decision.draw:.3f}"]
    if decision.delay_us:
        numbers.append(f"delay {say_milliseconds(decision.delay_us / 1000)}")
    if decision.snapshot_age_us >= 0:
        numbers.append(f"snapshot {say_milliseconds(decision.snapshot_age_us / 1000)} old")
    lines = [f"{decision.at_us / 1000:>10.1f} ms  {happened} -> {command}  [{decision.reason}]"]
    return lines + [f"{'':15}{part}" for text in (decision.text, ", ".join(numbers)) for part in _wrap(text, 85)]


def _wrap(text: str, width: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _silence_text(one: dict[str, str]) -> str:
    """Say which region's router did not answer, and why; an address that the user named is in the message."""
    return f"{one['region']}: {one['message']}" if one["region"] else one["message"]


def _age_text(age_ms: int) -> str:
    return "never heard" if age_ms < 0 else say_milliseconds(age_ms)
