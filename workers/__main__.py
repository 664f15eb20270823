"""`python -m workers`: one GPU worker process.

Standard output carries one JSON line, when the worker is attached and ready; everything else is the log, on standard error.
Exit codes: 0 after an orderly drain; 1 when it could not start, was turned away or was stopped in a hurry; 2 for bad arguments.
"""

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.model import GenerationModel
    from workers.settings import WorkerSettings

# gRPC's core writes to standard error past the log; what matters of it reaches us as exceptions. It reads this when it is
# imported, so nothing above may import it.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

log = logging.getLogger("workers")

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
INSTALL_HINT = "pip install 'homeward[worker]'"


class _Failure(Exception):
    """The process cannot go on. The message is one line for the operator."""


class _OneLineFormatter(logging.Formatter):
    def __init__(self, worker: str) -> None:
        layout = f"%(asctime)s.%(msecs)03d %(levelname)s worker={worker} %(message)s"
        super().__init__(layout, datefmt="%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Keep whatever a message quotes from breaking the line. Tracebacks, at debug level, keep their shape."""
        return super().formatMessage(record).replace("\r", "\\r").replace("\n", "\\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker until it is told to stop; return the exit code."""
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    except ModuleNotFoundError as missing:
        if (missing.name or "").split(".")[0] in ("workers", "homeward"):
            raise
        return _fail(f"the package {missing.name!r} is missing: {INSTALL_HINT}")
    except _Failure as failure:
        return _fail(str(failure))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as defect:
        log.debug("defect", exc_info=defect)
        return _fail(f"defect: {type(defect).__name__}: {defect}")


def _run(arguments: Sequence[str]) -> int:
    from workers.settings import parse_settings

    settings = parse_settings(arguments)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLineFormatter(settings.worker))
    logging.basicConfig(level=settings.log_level, handlers=[handler])
    logging.getLogger("asyncio").setLevel(max(settings.log_level, logging.INFO))

    from workers.attach import WorkerRejected
    from workers.identity import WorkerIdentity, new_incarnation
    from workers.lifecycle import PortUnavailable, Worker
    from workers.service_times import ServiceTimes

    identity = WorkerIdentity(settings.region, settings.worker, new_incarnation())
    models, warm_up_ms = _load_models(settings)

    def on_ready(address: str) -> None:
        ready = {"ready": True, "worker": settings.worker, "address": address, "region": settings.region, "pid": os.getpid()}
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()

    async def live() -> int:
        drain, stop = asyncio.Event(), asyncio.Event()

        def on_signal() -> None:
            (stop if drain.is_set() else drain).set()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, on_signal)
        worker = Worker(settings, identity, models, ServiceTimes(warm_up_ms), on_ready)
        await worker.start()
        code = EXIT_FAILED
        try:
            code = 0 if await worker.wait_until_over(drain, stop) else EXIT_FAILED
        except WorkerRejected as rejected:
            log.error("%s", rejected)
        if worker.stuck:
            # A model's thread is inside native code; ending the interpreter under it could crash.
            logging.shutdown()
            os._exit(code or EXIT_FAILED)
        log.info("ended")
        return code

    try:
        return asyncio.run(live())
    except PortUnavailable as unavailable:
        raise _Failure(str(unavailable)) from None


def _load_models(settings: "WorkerSettings") -> "tuple[dict[str, GenerationModel], dict[str, int]]":
    """Load and warm up; return models and their measured milliseconds, by variant id."""
    from workers.model import LOADERS
    from workers.service_times import measure_warm_up

    models: dict[str, GenerationModel] = {}
    warm_up_ms: dict[str, int] = {}
    for name in settings.models:
        try:
            model = LOADERS[name](settings.threads)
            measured_ms = measure_warm_up(model)
        except ModuleNotFoundError:
            raise
        except Exception as failure:
            log.debug("loading failed", exc_info=failure)
            raise _Failure(f"cannot load model {name!r}: {type(failure).__name__}: {failure}") from None
        models[model.variant_id] = model
        warm_up_ms[model.variant_id] = measured_ms
        log.info("loaded %s, one run takes %d ms", model.variant_id, measured_ms)
    return models, warm_up_ms


def _fail(message: str) -> int:
    one_line = " ".join(message.split())
    if logging.getLogger().handlers:
        log.error("%s", one_line)
    else:
        sys.stderr.write(f"homeward worker: error: {one_line}\n")
    return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
