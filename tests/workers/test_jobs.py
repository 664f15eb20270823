"""Slots by themselves: never more jobs than slots, whatever jobs do."""

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from workers.jobs import Completed, Failed, Job, JobEnd, Rejected, Slots, Stopped
from workers.model import Generated, InputRejected, OnStep, Step
from workers.refusals import Refusal, RefusalReason

MADE = Generated(b"made", "image/webp", 1, 1, 1, 1, "sway")
PATIENCE_S = 10.0


class Ledger:
    """Counts what runs, as an oracle for `Slots`."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.threads: set[str] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.threads.add(threading.current_thread().name)

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self.now -= 1


@pytest.fixture
def ended() -> list[tuple[str, JobEnd]]:
    return []


@pytest.fixture
async def slots(ended: list[tuple[str, JobEnd]]) -> AsyncIterator[Slots]:
    made = Slots(3, lambda job, end: ended.append((job.reservation_id, end)))
    yield made
    made.stop_all()
    async with asyncio.timeout(PATIENCE_S):
        await made.wait_idle()
    made.close()


async def last(job: Job) -> JobEnd:
    async with asyncio.timeout(PATIENCE_S):
        while await job.next_step() is not None:
            pass
    return job.end


async def test_a_storm_of_jobs_never_exceeds_the_slots(slots: Slots, ended: list[tuple[str, JobEnd]]) -> None:
    draw = random.Random(20_261_101)
    ledger = Ledger()

    def work(steps: int, failure: Exception | None) -> Any:
        def generate(on_step: OnStep) -> Generated:
            with ledger:
                for step in range(steps):
                    on_step(Step("denoise", step + 1, steps))
                    time.sleep(0.0005)
                if failure is not None:
                    raise failure
                return MADE

        return generate

    started: list[Job] = []
    reasons: set[RefusalReason] = set()
    for number in range(400):
        failure = draw.choice([None, None, RuntimeError("no"), InputRejected("photo", "bad")])
        try:
            started.append(slots.start(f"r{number}", "v", work(draw.randrange(6), failure)))
        except Refusal as refusal:
            reasons.add(refusal.reason)
            assert len(slots.running) == 3
            await asyncio.sleep(0.001)
        if started and draw.random() < 0.3:
            draw.choice(started).stop()
        assert len(slots.running) <= 3
    async with asyncio.timeout(PATIENCE_S):
        await slots.wait_idle()
    assert slots.running == ()
    assert ledger.most == 3
    assert ledger.threads == {"slot-0", "slot-1", "slot-2"}
    assert reasons == {RefusalReason.NO_FREE_SLOT}
    assert sorted(reservation for reservation, _ in ended) == sorted(job.reservation_id for job in started)
    assert {type(end) for _, end in ended} == {Completed, Failed, Rejected, Stopped}


async def test_steps_are_coalesced_to_the_latest(slots: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    wake = loop.call_soon_threadsafe
    wake_ups: list[object] = []
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *call: (wake_ups.append(call), wake(*call)))

    def generate(on_step: OnStep) -> Generated:
        for step in range(1, 10_001):
            on_step(Step("warp", step, 10_000))
        return MADE

    job = slots.start("r", "v", generate)
    # The loop is held, as by a slow reader, until the model has made all its steps.
    gives_up_s = time.monotonic() + PATIENCE_S
    while (job._latest_step is None or job._latest_step.step < 10_000) and time.monotonic() < gives_up_s:
        time.sleep(0.001)  # noqa: ASYNC251
    assert await job.next_step() == Step("warp", 10_000, 10_000)
    assert await job.next_step() is None
    assert job.end == Completed(MADE)
    assert job.run_ms >= 1
    assert len(wake_ups) == 2  # one for ten thousand steps, one for the end


async def test_a_stop_before_the_first_step_runs_nothing() -> None:
    ran = threading.Event()

    def generate(on_step: OnStep) -> Generated:
        ran.set()
        return MADE

    job = Job("r", "v", generate)
    job.stop()
    assert job.execute() == Stopped()
    assert not ran.is_set()


async def test_the_slot_is_free_before_the_reader_hears_of_the_end(slots: Slots, ended: list[tuple[str, JobEnd]]) -> None:
    job = slots.start("r", "v", lambda on_step: MADE)
    assert await last(job) == Completed(MADE)
    assert slots.running == ()
    assert ended == [("r", Completed(MADE))]


@pytest.mark.parametrize("failure", [MemoryError(), RuntimeError("no"), SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
async def test_whatever_a_model_raises_its_thread_survives(slots: Slots, failure: BaseException) -> None:
    def generate(on_step: OnStep) -> Generated:
        raise failure

    for number in range(6):  # twice every slot
        assert await last(slots.start(f"r{number}", "v", generate)) == Failed()
    assert await last(slots.start("good", "v", lambda on_step: MADE)) == Completed(MADE)


async def test_stop_all_reaches_every_job(slots: Slots, ended: list[tuple[str, JobEnd]]) -> None:
    def generate(on_step: OnStep) -> Generated:
        while True:
            on_step(Step("denoise", 1, 2))
            time.sleep(0.001)

    jobs = [slots.start(f"r{number}", "v", generate) for number in range(3)]
    slots.stop_all()
    assert [await last(job) for job in jobs] == [Stopped()] * 3
