"""`python -m router`: run one router until it is told to stop."""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from router.settings import Settings, SettingsError, check_settings


def parse(arguments: Sequence[str] | None) -> tuple[Settings, str]:
    """Settings and log level from the command line. Raises `SettingsError`; argparse exits with 2 by itself."""
    parser = argparse.ArgumentParser(prog="homeward router", description="Run the router of one region.")
    parser.add_argument("--region", required=True, help="region this router serves")
    parser.add_argument("--listen", default="127.0.0.1:7411", metavar="HOST:PORT", help="where gateways, workers and peers call")
    parser.add_argument("--redis-url", default=os.environ.get("REDIS_URL"), help="slot ledger of the region (default: $REDIS_URL)")
    parser.add_argument("--topology", type=Path, metavar="FILE", help="TOML file of all regions; without it the region is alone")
    parser.add_argument("--policy", type=Path, metavar="FILE", help="TOML file that overrides keys of the default policy")
    parser.add_argument("--metrics-listen", metavar="HOST:PORT", help="where Prometheus scrapes; without it nowhere")
    parser.add_argument("--drain-s", type=float, default=120.0, help="longest time a drain waits for running requests")
    parser.add_argument("--seed", type=int, default=0, help="seed of the policy's draws")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    given = parser.parse_args(arguments)
    settings = check_settings(
        region=given.region,
        listen=given.listen,
        redis_url=given.redis_url,
        topology_path=given.topology,
        policy_path=given.policy,
        metrics_listen=given.metrics_listen,
        drain_s=given.drain_s,
        seed=given.seed,
    )
    return settings, given.log_level


async def serve(settings: Settings) -> int:
    """Run a router until SIGTERM or SIGINT; return the exit code."""
    from router.server import Router, StartError

    try:
        router = Router(settings)
    except ValueError as error:  # what only the ledger's client knows to be wrong
        print(f"homeward router: --redis-url: {error}", file=sys.stderr)
        return 2
    stopping, hurried = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (hurried if stopping.is_set() else stopping).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    try:
        await router.start()
    except StartError as error:
        print(f"homeward router: {error}", file=sys.stderr)
        await router.stop()
        return 1
    ready = {"ready": True, "region": settings.region, "address": router.address, "pid": os.getpid()}
    print(json.dumps(ready), flush=True)
    await stopping.wait()
    drained = asyncio.create_task(router.drain())
    hurry = asyncio.create_task(hurried.wait())
    await asyncio.wait({drained, hurry}, return_when=asyncio.FIRST_COMPLETED)
    for task in (drained, hurry):
        task.cancel()
    await router.stop()
    return 1 if hurried.is_set() else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 stopped cleanly, 1 failed or hurried, 2 started wrongly."""
    # gRPC's core writes to standard error past the log; what matters of it reaches us as exceptions.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        settings, log_level = parse(arguments)
    except SettingsError as error:
        print(f"homeward router: {error}", file=sys.stderr)
        return 2
    logging.basicConfig(
        level=log_level.upper(),
        stream=sys.stderr,
        format=f"%(asctime)s.%(msecs)03d %(levelname)s router={settings.region} %(message)s",
        datefmt="%H:%M:%S",
    )
    try:
        import router.server  # noqa: F401
    except ModuleNotFoundError as error:
        print(f"homeward router: package {error.name!r} is missing: pip install 'homeward[router]'", file=sys.stderr)
        return 1
    try:
        import uvloop
    except ModuleNotFoundError:
        return asyncio.run(serve(settings))
    return uvloop.run(serve(settings))


if __name__ == "__main__":
    sys.exit(main())
