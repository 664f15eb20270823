"""Jobs and the slots they run on.

Rules
-----
* A worker has a fixed number of slots, each with one thread for life (torch keeps a pool of helpers for each thread that
  computes). A job that finds no free slot is refused; nothing queues here.
* A slot is busy from `Slots.start` until its thread has really left the model. Stopping a job only asks: the model hears of it
  at its next step. So "never more jobs than slots" holds whatever callers, routers or deadlines do.
* The end of a job is a value (`JobEnd`), never an exception of the model: its traceback would keep the job's tensors alive.
* Progress is coalesced: a slow reader sees the latest step, and a fast model never waits for anybody.

Everything except `Job.execute` and `Job.stop` belongs to the event loop.
"""

import asyncio
import logging
import queue
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from workers.model import Generated, InputRejected, JobStopped, OnStep, Step
from workers.refusals import Refusal, RefusalReason

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Completed:
    """The model made something."""

    generated: Generated


@dataclass(frozen=True, slots=True)
class Rejected:
    """The model found the input unusable."""

    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The model raised."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """Somebody stopped the job."""


JobEnd: TypeAlias = Completed | Rejected | Failed | Stopped
Generate: TypeAlias = Callable[[OnStep], Generated]


class Job:
    """One generation on one slot."""

    def __init__(self, reservation_id: str, variant: str, generate: Generate) -> None:
        """Must be called in the event loop that will hear of the progress."""
        self.reservation_id = reservation_id
        self.variant = variant
        self.run_ms = 0
        self._generate = generate
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._news = asyncio.Event()
        self._step_lock = threading.Lock()
        self._latest_step: Step | None = None
        self._end: JobEnd | None = None

    def stop(self) -> None:
        """Ask the model to end at its next step. Any thread, any number of times."""
        self._stop.set()

    async def next_step(self) -> Step | None:
        """Wait for a step that the reader has not seen; return the latest, or None when the job has ended."""
        while True:
            if (step := self._take_step()) is not None:
                return step
            if self._end is not None:
                return None
            await self._news.wait()
            self._news.clear()

    @property
    def end(self) -> JobEnd:
        """How the job ended; only after `next_step` returned None."""
        assert self._end is not None, "the job still runs"
        return self._end

    def execute(self) -> JobEnd:
        """Run the model to its end, in the slot's thread. Never raises."""
        started_s = time.monotonic()
        try:
            self._check_stop()
            return Completed(self._generate(self._on_step))
        except JobStopped:
            return Stopped()
        except InputRejected as rejection:
            return Rejected(rejection.field, rejection.message)
        except BaseException as failure:  # a slot's thread outlives whatever a model raises
            _log_failure(self, failure)
            return Failed()
        finally:
            self.run_ms = max(1, round((time.monotonic() - started_s) * 1_000))

    def ended(self, end: JobEnd) -> None:
        """Note the end and wake the reader."""
        self._end = end
        self._news.set()

    def _on_step(self, step: Step) -> None:
        self._check_stop()
        with self._step_lock:
            reader_knows = self._latest_step is not None
            self._latest_step = step
        if not reader_knows:
            # One wake-up for each step that is taken, however many the model makes.
            self._loop.call_soon_threadsafe(self._news.set)

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise JobStopped

    def _take_step(self) -> Step | None:
        with self._step_lock:
            step, self._latest_step = self._latest_step, None
        return step


class Slots:
    """The slots of a worker."""

    def __init__(self, count: int, on_end: Callable[[Job, JobEnd], None]) -> None:
        """Start `count` threads. `on_end` is called in the event loop when a slot has become free."""
        assert count >= 1
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._free = [_Slot(index, self._job_left) for index in range(count)]
        self._running: dict[str, Job] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def running(self) -> tuple[str, ...]:
        """Reservations whose jobs occupy a slot now."""
        return tuple(self._running)

    def start(self, reservation_id: str, variant: str, generate: Generate) -> Job:
        """Run a job on a free slot. Raises Refusal when there is none."""
        assert reservation_id not in self._running, "grants are spent once"
        if not self._free:
            raise Refusal(RefusalReason.NO_FREE_SLOT, "every slot of this worker is busy")
        job = Job(reservation_id, variant, generate)
        self._running[reservation_id] = job
        self._idle.clear()
        self._free.pop().inbox.put(job)
        return job

    def stop_all(self) -> None:
        """Ask every running job to stop."""
        for job in self._running.values():
            job.stop()

    async def wait_idle(self) -> None:
        """Wait until no slot is busy."""
        await self._idle.wait()

    def close(self) -> None:
        """End the threads of the free slots; a busy one ends with the process."""
        for slot in self._free:
            slot.inbox.put(None)
        self._free.clear()

    def _job_left(self, slot: "_Slot", job: Job, end: JobEnd) -> None:
        """In the slot's thread: the model has returned."""
        try:
            self._loop.call_soon_threadsafe(self._release, slot, job, end)
        except RuntimeError:
            log.debug("the event loop ended before reservation %s", job.reservation_id)

    def _release(self, slot: "_Slot", job: Job, end: JobEnd) -> None:
        del self._running[job.reservation_id]
        self._free.append(slot)
        if not self._running:
            self._idle.set()
        # First the router, then the reader: the slot is wanted more urgently than the output.
        self._on_end(job, end)
        job.ended(end)


class _Slot:
    """One thread that runs the jobs put into its inbox, one after another."""

    def __init__(self, index: int, on_left: Callable[["_Slot", Job, JobEnd], None]) -> None:
        self.inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._on_left = on_left
        # A daemon: a model that never reaches its next step must not keep the process alive.
        threading.Thread(target=self._serve, name=f"slot-{index}", daemon=True).start()

    def _serve(self) -> None:
        while (job := self.inbox.get()) is not None:
            self._on_left(self, job, job.execute())
            del job  # an idle slot keeps no photo in memory


def _log_failure(job: Job, failure: BaseException) -> None:
    frames = traceback.extract_tb(failure.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}" if frames else "nowhere"
    kind = type(failure).__name__
    log.error("model failed in reservation %s: %s: %s (%s)", job.reservation_id, kind, failure, where)
    log.debug("model failed", exc_info=failure)
