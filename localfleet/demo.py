"""The demo's load: real photos through three regional gateways, first calm, then a burst that overfills one region.

The calm part shows what is usual: every request is served at home. The burst sends six times as many requests to one region as
it has slots, at the same moment, so that the three ways out can be seen: spillover to the regions whose ring is open, backoff
for whoever found no slot anywhere, and marginal execution delay for a share of those that got one.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homeward import AsyncClient, Event, Finished, HomewardError, new_request_id
from localfleet.state import FleetState

BURST_REQUESTS = 12
TIMEOUT_S = 120.0
MOTIONS = ("zoom", "pulse", "parallax", "spin", "sway", "ripple")

# A region of two slots meets a pressure of 0.5 with its second job, below the default 0.7, and a share of 0.25 of so few jobs
# is often nobody. With these, about eight jobs of the burst are candidates and the chance of no delay at all is 0.1 %.
POLICY_TOML = """\
[start_delay]
share_max = 0.9
pressure_from = 0.2
"""
POLICY_NOTE = (
    "policy of the demo: start_delay.share_max = 0.9, pressure_from = 0.2 (defaults 0.25 and 0.7), because in regions of two "
    "slots marginal execution delay would hardly be seen"
)


@dataclass(frozen=True, slots=True)
class DemoRequest:
    """One request of the demo."""

    name: str
    """Also the name of its file in the output folder, without `.webp`."""
    home: str
    photo: Path
    motion: str
    seed: int
    is_burst: bool


@dataclass(frozen=True, slots=True)
class DemoRow:
    """How one request went."""

    request: DemoRequest
    request_id: str
    finished: Finished | None
    error: HomewardError | None
    file: Path | None

    @property
    def outcome(self) -> str:
        """The outcome's name."""
        if self.finished is not None:
            return self.finished.outcome.value
        return self.error.reason if self.error is not None else "UNSPECIFIED"

    @property
    def is_spilled(self) -> bool:
        """Whether another region than home served it."""
        return self.finished is not None and self.finished.served_region != self.finished.home_region

    def document(self) -> dict[str, Any]:
        """Return the row for `--json`."""
        facts: dict[str, Any] = {
            "name": self.request.name,
            "request_id": self.request_id,
            "photo": self.request.photo.name,
            "motion": self.request.motion,
            "home_region": self.request.home,
            "outcome": self.outcome,
        }
        if self.finished is not None:
            measured = ("served_region", "worker", "attempts", "wait_ms", "start_delay_ms", "run_ms", "total_ms")
            facts |= {name: getattr(self.finished, name) for name in measured}
            facts["motion_used"] = self.finished.motion
            facts["output"] = str(self.file)
        if self.error is not None:
            facts["error"] = self.error.message
        return facts


def plan_requests(regions: Sequence[str], photos: Sequence[Path]) -> tuple[list[DemoRequest], list[DemoRequest]]:
    """Return the calm requests, one from each region, and the burst at the first region."""
    calm = []
    for index, region in enumerate(regions):
        photo, motion = photos[index % len(photos)], MOTIONS[index % len(MOTIONS)]
        calm.append(DemoRequest(f"calm-{region}-{photo.stem}-{motion}", region, photo, motion, index, is_burst=False))
    burst = []
    for index in range(BURST_REQUESTS):
        # The second divisor shifts the pairing each time round, so no photo meets the same motion twice.
        photo = photos[index % len(photos)]
        motion = MOTIONS[(index + index // len(photos)) % len(MOTIONS)]
        name = f"burst-{index + 1:02}-{photo.stem}-{motion}"
        burst.append(DemoRequest(name, regions[0], photo, motion, 100 + index, is_burst=True))
    return calm, burst


async def send_all(
    fleet: FleetState,
    requests: Sequence[DemoRequest],
    out: Path,
    on_event: Callable[[DemoRequest, Event], None],
    on_row: Callable[[DemoRow], None],
) -> list[DemoRow]:
    """Send all requests at once, each through the gateway of its home region; write the animations into `out`."""
    gateways = {region.name: AsyncClient(region.router) for region in fleet.regions}

    async def send(request: DemoRequest) -> DemoRow:
        row = await _send(gateways[request.home], request, out, lambda event: on_event(request, event))
        on_row(row)
        return row

    try:
        return await asyncio.gather(*(send(request) for request in requests))
    finally:
        await asyncio.gather(*(gateway.close() for gateway in gateways.values()))


async def _send(gateway: AsyncClient, request: DemoRequest, out: Path, on_event: Callable[[Event], None]) -> DemoRow:
    request_id = new_request_id()
    try:
        finished = await gateway.run(
            on_event=on_event,
            photo=request.photo.read_bytes(),
            motion=request.motion,
            seed=request.seed,
            timeout_s=TIMEOUT_S,
            request_id=request_id,
            home_region=request.home,
        )
    except HomewardError as error:
        return DemoRow(request, request_id, None, error, None)
    file = out / f"{request.name}.webp"
    file.write_bytes(finished.output)
    return DemoRow(request, request_id, finished, None, file)


def summarise(rows: Sequence[DemoRow]) -> list[str]:
    """Say in words what the table shows."""
    calm = [row for row in rows if not row.request.is_burst]
    burst = [row for row in rows if row.request.is_burst]
    stayed = sum(row.finished is not None and not row.is_spilled for row in calm)
    lines = [f"Calm: {stayed} of {len(calm)} requests were served in their home region."]
    if burst:
        home = burst[0].request.home
        at_home = sum(row.finished is not None and not row.is_spilled for row in burst)
        spilled = Counter(row.finished.served_region for row in burst if row.is_spilled and row.finished is not None)
        went = ", ".join(f"{count} to {region}" for region, count in spilled.most_common())
        lines.append(
            f"Burst: {len(burst)} requests at {home} at once; {at_home} ran there, {spilled.total()} spilled ({went or 'none'})."
        )
        done = [row.finished for row in burst if row.finished is not None]
        waited = [one.wait_ms for one in done if one.attempts > 1]
        if waited:
            lines.append(f"Backoff: {len(waited)} found no free slot at first and waited, the longest {max(waited) / 1000:.1f} s.")
        delayed = [one.start_delay_ms for one in done if one.start_delay_ms > 0]
        if delayed:
            lines.append(
                f"Marginal execution delay: {len(delayed)} started later on purpose, the longest by {max(delayed)} ms, so that "
                "work becomes runnable gradually."
            )
    replaced = sum(row.finished is not None and row.finished.motion != row.request.motion for row in rows)
    if replaced:
        photos = "1 photo" if replaced == 1 else f"{replaced} photos"
        lines.append(f"Motion: {photos} had nothing to move as asked (no water to ripple, say) and got another motion.")
    failed = [row for row in rows if row.finished is None]
    for row in failed:
        lines.append(f"FAILED: {row.request.name}: {row.error}")
    return lines


def most_telling(rows: Sequence[DemoRow]) -> DemoRow | None:
    """Return the spilled request whose story is the easiest to follow: fewest rounds, nearest region."""
    spilled = [row for row in rows if row.is_spilled and row.finished is not None]

    def order(row: DemoRow) -> tuple[int, int, str]:
        assert row.finished is not None
        return (row.finished.attempts, row.finished.wait_ms, row.request.name)

    return min(spilled, key=order, default=None)
