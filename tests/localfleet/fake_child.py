"""A router or a worker of the local fleet, as far as the supervisor can tell. Runs as a script.

    fake_child.py router HOST:PORT FOLDER | worker NAME FOLDER    [--mood MOOD]

FOLDER has the fleet's topology.toml; what happens to the child is appended to FOLDER/journal. Moods: `dies` (before it is
ready, with last words), `silent` (never ready), `deaf` (ignores SIGTERM), `refuses` (its settings).
"""

import argparse
import json
import signal
import sys
import threading
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from homeward.v1 import operations_pb2, operations_pb2_grpc, peering_pb2


def serve(address: str, regions: list[str]) -> Any:
    """Start a router that says that every region has slots enough. Imports here: workers need no gRPC, and start sooner."""

    class Operations(operations_pb2_grpc.OperationsServicer):
        def ListRegions(self, request: Any, context: Any) -> operations_pb2.ListRegionsResponse:  # noqa: N802
            pool = peering_pb2.PoolCapacity(pool="animate", slots=64)
            views = [operations_pb2.RegionView(region=name, usable=True, pools=[pool]) for name in regions]
            return operations_pb2.ListRegionsResponse(regions=views)

    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    operations_pb2_grpc.add_OperationsServicer_to_server(Operations(), server)
    server.add_insecure_port(address)
    server.start()
    return server


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["router", "worker"])
    parser.add_argument("what")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mood", default="")
    given = parser.parse_args()
    if given.mood == "dies":
        sys.exit("first words\nModuleNotFoundError: these were my last words")
    if given.mood == "refuses":
        sys.stderr.write(f"homeward router: policy file {given.folder / 'policy.toml'}: it is wrong\n")
        sys.exit(2)
    stop = threading.Event()

    def on_sigterm(number: int, frame: Any) -> None:
        if given.mood != "deaf":
            stop.set()

    signal.signal(signal.SIGTERM, on_sigterm)
    server = None
    if given.role == "router":
        topology = tomllib.loads((given.folder / "topology.toml").read_text())
        server = serve(given.what, [region["name"] for region in topology["regions"]])
    sys.stderr.write(f"{given.what} is here\n")
    if given.mood != "silent":
        sys.stdout.write(json.dumps({"ready": True}) + "\n")
        sys.stdout.flush()
    stop.wait()
    del server
    with (given.folder / "journal").open("a") as journal:
        journal.write(f"{given.role}\n")


if __name__ == "__main__":
    main()
