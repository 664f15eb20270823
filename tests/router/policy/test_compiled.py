"""Router and simulator run one source: interpreted and compiled it must give the same numbers, to the last bit."""

import subprocess
import sys
from collections.abc import Callable
from random import Random
from types import SimpleNamespace

import numba
import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from router.policy import backoff, consent, draws, placement, start_delay
from router.policy.parameters import Parameters
from router.policy.state import Command, Event, State, View
from router.policy.step import step
from router.policy.vocabulary import CommandKind

from .worlds import (
    DAY_US,
    PROPERTY,
    SECOND_US,
    some_bits,
    some_draw,
    some_duration_us,
    some_parameters,
    some_situation,
    some_unit,
    some_view,
)

SEED = 20_250_101
VIEWS = 3_000
STEPS_PER_VIEW = 4


def as_arrays(view: View) -> View:
    """The view as the simulator holds it."""
    ints = {name: np.array(getattr(view, name), dtype=np.int64) for name in ("ring", "rtt_us", "offered", "age_us", "serves")}
    return view._replace(load=np.array(view.load, dtype=np.float64), **ints)


@pytest.fixture(scope="session")
def compiled() -> SimpleNamespace:
    """The policy's functions behind njit wrappers, each compiled at its first call."""
    draw, wait_us, window_us, work_off_us = draws.draw, backoff.wait_us, backoff.window_us, backoff.work_off_us
    next_region, another_serves, offer = placement.next_region, placement.another_serves, consent.offer
    delay_us, share_of, pressure_of = start_delay.delay_us, start_delay.share_of, start_delay.pressure_of

    @numba.njit
    def run_step(
        state: State, event: Event, now_us: int, u: float, parameters: Parameters, view: View
    ) -> tuple[State, Command]:
        return step(state, event, now_us, u, parameters, view)

    @numba.njit
    def run_draw(seed: int, key: int, attempt: int, purpose: int) -> float:
        return draw(seed, key, attempt, purpose)

    @numba.njit
    def run_placement(tried: int, asked: int, load: float, parameters: Parameters, view: View) -> tuple[int, bool]:
        return next_region(tried, asked, load, parameters, view), another_serves(parameters, view)

    @numba.njit
    def run_backoff(
        attempt: int, eta_us: int, run_us: int, waiting: int, slots: int, u: float, parameters: Parameters
    ) -> tuple[int, int, int]:
        work_off = work_off_us(run_us, waiting, slots, parameters)
        return window_us(attempt, parameters), work_off, wait_us(attempt, eta_us, work_off, u, parameters)

    @numba.njit
    def run_start_delay(
        busy: int, waiting: int, slots: int, u: float, slack_us: int, parameters: Parameters
    ) -> tuple[float, float, int]:
        pressure = pressure_of(busy, waiting, slots)
        return pressure, share_of(pressure, parameters), delay_us(pressure, u, slack_us, parameters)

    @numba.njit
    def run_offer(slots: int, busy: int, share: float) -> int:
        return offer(slots, busy, share)

    return SimpleNamespace(
        step=run_step, draw=run_draw, placement=run_placement, backoff=run_backoff, start_delay=run_start_delay,
        offer=run_offer,
    )  # fmt: skip


def agree(name: str, compiled_function: Callable[..., object], *arguments: object, view: View | None = None) -> object:
    """Call the compiled function and its own Python source with the same arguments; both answers must be equal."""
    views = () if view is None else (as_arrays(view),)
    fast = compiled_function(*arguments, *views)
    slow = compiled_function.py_func(*arguments, *(() if view is None else (view,)))  # type: ignore[attr-defined]
    assert fast == slow, f"{name} differs\n arguments {arguments}\n view {view}\n compiled {fast}\n interpreted {slow}"
    return slow


def step_agrees(compiled: SimpleNamespace, rng: Random, given_parameters: Parameters, view: View) -> Command:
    state, event, now_us = some_situation(rng, view, given_parameters)
    _, command = agree("step", compiled.step, state, event, now_us, some_draw(rng), given_parameters, view=view)  # type: ignore[misc]
    assert isinstance(command, Command)
    return command


def test_step_is_the_same_compiled_and_interpreted(compiled: SimpleNamespace) -> None:
    met: set[tuple[int, int, int]] = set()
    for index in range(VIEWS):
        seed = SEED + index
        rng = Random(seed)
        parameters = some_parameters(rng)
        view = some_view(rng, parameters)
        for number in range(STEPS_PER_VIEW):
            try:
                command = step_agrees(compiled, rng, parameters, view)
            except (AssertionError, ArithmeticError) as error:
                raise AssertionError(f"seed {seed}, step {number}") from error
            met.add((command.kind, command.outcome, command.reason))
    # The loop proves nothing about decisions that it never met.
    assert {kind for kind, _, _ in met} == {kind.value for kind in CommandKind}
    assert len(met) >= 35, sorted(met)


@settings(PROPERTY, max_examples=100)
@given(rng=st.randoms(use_true_random=False))
def test_step_is_the_same_shrunk(compiled: SimpleNamespace, rng: Random) -> None:
    parameters = some_parameters(rng)
    view = some_view(rng, parameters, most_regions=4)
    note(f"{parameters}\n{view}")
    step_agrees(compiled, rng, parameters, view)


def test_draw_is_the_same(compiled: SimpleNamespace) -> None:
    rng = Random(SEED)
    for _ in range(20_000):
        arguments = rng.getrandbits(62), rng.getrandbits(62), rng.randrange(101), rng.randrange(1, 11)
        agree("draw", compiled.draw, *arguments)
    for edge in (0, 1, 2**31, 2**32 - 1, 2**32, 2**62 - 1):
        agree("draw", compiled.draw, edge, edge, 100, 10)


def test_placement_is_the_same(compiled: SimpleNamespace) -> None:
    for seed in range(SEED, SEED + 1_000):
        rng = Random(seed)
        parameters = some_parameters(rng)
        view = some_view(rng, parameters)
        tried, asked = some_bits(rng, len(view.ring)), rng.randint(0, parameters.regions_per_attempt_max)
        agree(f"placement (seed {seed})", compiled.placement, tried, asked, some_unit(rng), parameters, view=view)


def test_backoff_is_the_same(compiled: SimpleNamespace) -> None:
    for seed in range(SEED, SEED + 3_000):
        rng = Random(seed)
        eta_us, run_us = some_duration_us(rng, DAY_US), some_duration_us(rng, DAY_US)
        waiting, slots = rng.randrange(1_000_000), rng.randrange(10_000)
        arguments = rng.randint(0, 100), eta_us, run_us, waiting, slots, some_draw(rng), some_parameters(rng)
        agree(f"backoff (seed {seed})", compiled.backoff, *arguments)


def test_start_delay_is_the_same(compiled: SimpleNamespace) -> None:
    for seed in range(SEED, SEED + 3_000):
        rng = Random(seed)
        slack_us = rng.choice((-1, 0, 1, 600 * SECOND_US))
        arguments = rng.randrange(100), rng.randrange(100), rng.randrange(100), some_draw(rng), slack_us
        agree(f"start delay (seed {seed})", compiled.start_delay, *arguments, some_parameters(rng))


def test_offer_is_the_same(compiled: SimpleNamespace) -> None:
    rng = Random(SEED)
    for _ in range(3_000):
        agree("offer", compiled.offer, rng.randrange(5_000), rng.randrange(5_000), some_unit(rng))


WITHOUT_NUMBA = """
import sys
sys.modules["numba"] = None  # importing it raises ImportError, as if it were not installed
from router.policy.draws import draw
from router.policy.parameters import parameters
from router.policy.state import Event, View, arrival
from router.policy.step import step
view = View(0, [0, 1], [0, 9000], [0, 4], [0, 0], [1, 1], [1.0, 0.2], 3, 5_000_000)
state = arrival(1_000_000, 61_000_000)
for event in (Event(1), Event(3, 0, refusal=1, eta_us=2_000_000, slots=8, busy=8), Event(2, 1, slots=8, busy=8)):
    u = draw(7, 11, state.attempt, event.kind)
    state, command = step(state, event, 1_000_000, u, parameters(), view)
    print(tuple(state), tuple(command))
assert not [name for name in sys.modules if name.startswith(("numba.", "numpy"))]
"""


def test_runs_without_numba() -> None:
    def run(source: str) -> str:
        done = subprocess.run([sys.executable, "-W", "error", "-c", source], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    without = run(WITHOUT_NUMBA)
    assert without.count("\n") == 3
    # With numba installed the interpreted policy gives the same: the mark does not touch it.
    kept = [line for line in WITHOUT_NUMBA.splitlines() if not line.startswith(("sys.modules", "assert"))]
    assert run("\n".join(kept)) == without
