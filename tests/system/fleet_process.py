"""The fleet under test, in a process of its own: `fleet_process.py REGION,REGION WORKERS_PER_REGION`.

It is what `homeward up` starts, with two differences: every port is a free one, and the first line of output is the plan with
the regions' secrets, so that a test can start a killed router again exactly as it was. Reports go to standard error.
"""

import asyncio
import contextlib
import json
import sys
from dataclasses import asdict

from localfleet.plan import FleetPlan
from localfleet.session import run_fleet
from localfleet.state import FleetFile, FleetState
from localfleet.supervisor import Fleet
from localfleet.valkey import EmbeddedValkey


def main() -> None:
    """Run until a signal comes."""
    plan = FleetPlan.make(port_base=None, regions=sys.argv[1].split(","), workers_per_region=int(sys.argv[2]))
    fleet = Fleet(plan, EmbeddedValkey, lambda line: say(sys.stderr, line))
    with contextlib.closing(FleetFile()) as file:

        async def while_up(state: FleetState) -> None:
            file.write(state)
            say(sys.stdout, json.dumps([asdict(region) for region in plan.regions]))
            await fleet.serve()

        asyncio.run(run_fleet(fleet, while_up, lambda: None))


def say(stream: object, line: str) -> None:
    stream.write(f"{line}\n")  # type: ignore[attr-defined]
    stream.flush()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
