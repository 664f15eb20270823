"""The real model behind the runtime's interface, with untrained weights: what comes out is no art, but it is all the code."""

import io
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image

from homeward.v1.generation_pb2 import AnimateParameters, GenerateRequest
from workers.animate import checkpoint
from workers.animate.model import AnimateModel
from workers.animate.network import Architecture, MotionNetwork
from workers.animate_requests import AnimateRequests
from workers.model import InputRejected, JobStopped, Step
from workers.service_times import measure_warm_up

if TYPE_CHECKING:
    from tests.workers.conftest import Rig

PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        checkpoint.write(path, MotionNetwork(Architecture()), {})
    return path


@pytest.fixture(scope="module")
def model(weights: Path) -> Iterator[AnimateRequests]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield AnimateRequests(AnimateModel.load(weights))
    torch.set_num_threads(threads)


@pytest.fixture
def told(model: AnimateRequests, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the model is told, instead of a generation: the call ends with JobStopped."""
    arguments: dict[str, Any] = {}

    def generate(photo: bytes, *, on_step: Any, **named: Any) -> Any:
        arguments.update(named, photo=photo)
        raise JobStopped

    monkeypatch.setattr(model, "_model", type("Listener", (), {"generate": staticmethod(generate), "motions": ("auto",)}))
    return arguments


def photo(side_px: int = 64) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((side_px, side_px)).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


def request(**parameters: Any) -> GenerateRequest:
    return GenerateRequest(request_id="request-1", model="animate", photo=photo(), animate=AnimateParameters(**parameters))


def test_a_request_becomes_an_animation(model: AnimateRequests) -> None:
    steps: list[Step] = []
    made = model.generate(request(motion="zoom", strength=0.5), steps.append)
    assert (made.media_type, made.width_px, made.height_px, made.motion) == ("image/webp", 64, 64, "zoom")
    with Image.open(io.BytesIO(made.data)) as animation:
        assert 1 < animation.n_frames <= made.frames  # the encoder merges equal neighbours
    assert [each.step for each in steps] == list(range(1, steps[-1].steps + 1))


def test_unset_parameters_have_the_contracts_defaults(model: AnimateRequests, told: dict[str, Any]) -> None:
    bare = GenerateRequest(request_id="request-1", model="animate", photo=b"photo")
    model.check(bare)
    with pytest.raises(JobStopped):
        model.generate(bare, lambda step: None)
    assert told == {"photo": b"photo", "motion": "auto", "strength": 1.0, "direction_degrees": 0.0, "seed": 0}


def test_a_strength_of_zero_is_a_still(model: AnimateRequests) -> None:
    still = model.generate(request(motion="zoom", strength=0.0), lambda step: None)
    with Image.open(io.BytesIO(still.data)) as animation:
        frames = []
        for index in range(animation.n_frames):
            animation.seek(index)
            frames.append(animation.convert("RGB").tobytes())
    assert len(set(frames)) == 1


def test_angles_turn_counter_clockwise_and_seeds_have_64_bits(model: AnimateRequests, told: dict[str, Any]) -> None:
    wanted = request(direction_degrees=90)
    wanted.seed = 2**64 - 1
    with pytest.raises(JobStopped):
        model.generate(wanted, lambda step: None)
    # Up is 90 in the contract; the model counts clockwise, because its y axis points down.
    assert (told["direction_degrees"], told["seed"]) == (-90, 2**63 - 1)


@pytest.mark.parametrize(
    ("parameters", "field", "says"),
    [
        ({"motion": "levitate"}, "animate.motion", "choose one of auto, sway"),
        ({"motion": "x" * 10_000}, "animate.motion", "choose one of auto, sway"),
        ({"strength": 2.01}, "animate.strength", "from 0 to 2"),
        ({"strength": -0.01}, "animate.strength", "from 0 to 2"),
        ({"strength": math.nan}, "animate.strength", "from 0 to 2"),
        ({"strength": math.inf}, "animate.strength", "from 0 to 2"),
        ({"direction_degrees": 360.5}, "animate.direction_degrees", "from -360 to 360"),
        ({"direction_degrees": -361}, "animate.direction_degrees", "from -360 to 360"),
        ({"direction_degrees": math.nan}, "animate.direction_degrees", "from -360 to 360"),
    ],
)
def test_parameters_outside_the_contract(model: AnimateRequests, parameters: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(InputRejected) as caught:
        model.check(request(**parameters))
    assert caught.value.field == field
    assert says in caught.value.message
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("edge", [{"strength": 0}, {"strength": 2}, {"direction_degrees": -360}, {"direction_degrees": 360}])
def test_the_edges_belong_to_the_contract(model: AnimateRequests, edge: dict[str, Any]) -> None:
    model.check(request(**edge))


def test_a_bad_photo_is_the_users_business(model: AnimateRequests) -> None:
    broken = request()
    broken.photo = b"no photo"
    with pytest.raises(InputRejected, match="not a PNG, JPEG or WebP") as caught:
        model.generate(broken, lambda step: None)
    assert caught.value.field == "photo"


def test_a_stop_ends_it_at_the_next_step(model: AnimateRequests) -> None:
    steps: list[Step] = []

    def on_step(step: Step) -> None:
        steps.append(step)
        if len(steps) == 3:
            raise JobStopped

    with pytest.raises(JobStopped):
        model.generate(request(), on_step)
    assert len(steps) == 3


def test_the_warm_up_goes_through(model: AnimateRequests) -> None:
    model.check(model.warm_up_request())
    assert 1 <= measure_warm_up(model) < PATIENCE_S * 1_000


async def test_a_real_process_animates_is_stopped_and_drains(rig: "Rig", weights: Path) -> None:
    script = (
        "import os, sys, torch\n"
        "from pathlib import Path\n"
        "from workers import model\n"
        "from workers.__main__ import main\n"
        "def load(threads):\n"
        "    from workers.animate.model import AnimateModel\n"
        "    from workers.animate_requests import AnimateRequests\n"
        "    torch.set_num_threads(threads)\n"
        "    return AnimateRequests(AnimateModel.load(Path(os.environ['WEIGHTS'])))\n"
        "model.LOADERS['animate'] = load\n"
        "sys.exit(main())\n"
    )
    arguments = ("--region", "us-east", "--router", await rig.serve_fleet(), "--name", "gpu-1")
    child = subprocess.Popen(  # noqa: ASYNC220  (returns at once)
        [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True, env=os.environ | {"WEIGHTS": str(weights)}
    )
    try:
        registered = (await rig.fleet.until(lambda: rig.fleet.sessions and rig.fleet.sessions[0].messages))[0].register
        offer = registered.variants[0]
        assert (offer.model, offer.digest[:7]) == ("animate", "sha256:")
        assert offer.service_ms >= 1
        rig.worker = type("At", (), {"address": registered.address})
        assert child.stdout is not None
        assert json.loads(child.stdout.readline())["address"] == registered.address
        claims = {"incarnation": registered.incarnation, "variant": offer.variant, "variant_digest": offer.digest}

        stopped, reservation = await rig.started(request=request(), **claims)
        await stopped.read()
        stopped.cancel()
        await rig.fleet.until(lambda: rig.fleet.sessions[0].finished == [reservation])

        call, _ = await rig.started(request=request(motion="spin"), **claims)
        child.send_signal(signal.SIGTERM)
        assert (await rig.rest(call))[-1].result.output.motion in ("spin", "parallax")
        assert child.wait(PATIENCE_S) == 0
    finally:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()
