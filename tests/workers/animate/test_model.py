"""The model as its callers see it, with the packaged weights."""

import hashlib
import json
import threading
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load, save

from workers.animate import checkpoint
from workers.animate.model import (
    FRAME_MS,
    FRAMES,
    SAMPLER_STEPS,
    SIDE_PX_MAX,
    AnimateModel,
    Animation,
    Cancelled,
    InputRejected,
    PhotoRejected,
    Progress,
    WeightsRejected,
)
from workers.animate.photo import decode

EXAMPLES = Path(__file__).parents[3] / "examples"
CAT = (EXAMPLES / "cat.jpg").read_bytes()


@pytest.fixture(scope="module")
def model() -> AnimateModel:
    return AnimateModel.load()


def frames_of(animation: Animation) -> list[NDArray[np.float32]]:
    with Image.open(BytesIO(animation.data)) as picture:
        frames = []
        for index in range(getattr(picture, "n_frames", 1)):
            picture.seek(index)
            frames.append(np.asarray(picture.convert("RGB"), dtype=np.float32))
        return frames


def packaged() -> bytes:
    return (Path(checkpoint.__file__).parent / "weights" / checkpoint.PACKAGED_NAME).read_bytes()


def test_names_itself(model: AnimateModel) -> None:
    assert model.name == "animate"
    assert model.variant_id == f"animate-v1/ddim{SAMPLER_STEPS}/fp32"
    assert model.digest == f"sha256:{hashlib.sha256(packaged()).hexdigest()}"
    assert model.motions == ("auto", "sway", "ripple", "drift", "zoom", "parallax", "spin", "pulse")


def test_an_animation_is_what_it_says(model: AnimateModel) -> None:
    animation = model.generate(CAT, motion="parallax", seed=1)
    assert animation.media_type == "image/webp"
    assert animation.motion == "parallax"
    assert (animation.frames, animation.duration_ms) == (FRAMES, FRAMES * FRAME_MS)
    with Image.open(BytesIO(animation.data)) as picture:
        assert picture.format == "WEBP"
        assert picture.size == (animation.width, animation.height)
        assert getattr(picture, "n_frames", 1) == FRAMES
        assert picture.info["loop"] == 0
        assert "exif" not in picture.info
    assert max(animation.width, animation.height) <= SIDE_PX_MAX


def test_the_first_frame_is_the_photo_the_others_move_and_the_loop_closes(model: AnimateModel) -> None:
    frames = frames_of(model.generate(CAT, motion="zoom", seed=1))
    photo = decode(CAT, SIDE_PX_MAX).astype(np.float32)
    assert np.abs(frames[0] - photo).mean() < 5
    moved = [float(np.abs(frame - frames[0]).mean()) for frame in frames]
    assert max(moved) > 10
    assert moved[-1] < 0.5 * max(moved)


@pytest.mark.parametrize("motion", ["sway", "ripple", "drift", "zoom", "parallax", "spin", "pulse"])
def test_strength_zero_is_a_still_picture(model: AnimateModel, motion: str) -> None:
    animation = model.generate(CAT, motion=motion, strength=0.0)
    frames = frames_of(animation)
    assert max(float(np.abs(frame - frames[0]).mean()) for frame in frames) < 1.0
    assert animation.frames == len(frames) == 1


def test_the_same_seed_gives_the_same_bytes_from_any_thread(model: AnimateModel) -> None:
    photo = (EXAMPLES / "coffee.jpg").read_bytes()
    expected = model.generate(photo, seed=5)
    results: dict[int, Animation] = {}

    def work(index: int) -> None:
        results[index] = model.generate(photo, seed=5 + index % 2)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[2] == expected
    assert results[1] == results[3]
    assert results[1].data != expected.data


def test_progress_is_monotone_and_complete(model: AnimateModel) -> None:
    seen: list[Progress] = []
    model.generate(CAT, on_step=seen.append)
    assert [progress.step for progress in seen] == list(range(1, len(seen) + 1))
    assert {progress.steps for progress in seen} == {len(seen)}
    order = list(dict.fromkeys(progress.stage for progress in seen))
    assert order == ["decode", "denoise", "warp", "encode"]


@pytest.mark.parametrize("stage", ["decode", "denoise", "warp", "encode"])
def test_a_caller_can_stop_a_job_in_any_stage(model: AnimateModel, stage: str) -> None:
    after: list[Progress] = []

    def stop(progress: Progress) -> None:
        after.append(progress)
        if progress.stage == stage:
            raise Cancelled

    with pytest.raises(Cancelled):
        model.generate(CAT, on_step=stop)
    assert [progress.stage for progress in after].count(stage) == 1


def test_a_photo_without_sky_or_water_is_not_smeared(model: AnimateModel) -> None:
    output = BytesIO()
    Image.new("RGB", (64, 64), (90, 60, 40)).save(output, "PNG")
    for motion in ("ripple", "spin", "sway"):
        assert model.generate(output.getvalue(), motion=motion).motion in (motion, "parallax")


def test_auto_names_the_motion_it_took(model: AnimateModel) -> None:
    assert model.generate(CAT).motion in model.motions[1:]


@pytest.mark.parametrize(
    ("arguments", "field", "words"),
    [
        ({"motion": "swey"}, "motion", "Did you mean 'sway'"),
        ({"motion": ""}, "motion", "Known motions"),
        ({"strength": -0.1}, "strength", "strength must be"),
        ({"strength": float("nan")}, "strength", "strength must be"),
        ({"strength": 2.5}, "strength", "strength must be"),
        ({"direction_degrees": float("inf")}, "direction_degrees", "finite"),
        ({"seed": -1}, "seed", "seed must be"),
        ({"seed": 2**63}, "seed", "seed must be"),
    ],
)
def test_refuses_arguments_out_of_range(
    model: AnimateModel, arguments: dict[str, object], field: str, words: str
) -> None:
    with pytest.raises(InputRejected, match=words) as refused:
        model.generate(CAT, **arguments)  # type: ignore[arg-type]
    assert refused.value.field == field


def test_refuses_a_bad_photo_before_any_work(model: AnimateModel) -> None:
    seen: list[Progress] = []
    with pytest.raises(PhotoRejected):
        model.generate(b"", on_step=seen.append)
    assert seen == []


def test_weights_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    data = packaged()
    flipped = bytearray(data)
    flipped[-1000] ^= 1
    metadata = checkpoint.metadata_of(data)
    other = load(data)
    other["label.weight"] = other["label.weight"][:3]
    cases = {
        "cut": data[:-100],
        "flipped": bytes(flipped),
        "text": b"not safetensors at all",
        "empty": b"",
        "unsigned": save(load(data), metadata={"architecture": metadata["architecture"]}),
        "pickle": b"\x80\x04\x95" + bytes(64),
        "reshaped": save(other, metadata=metadata),
        "half": save({name: tensor.half() for name, tensor in load(data).items()}, metadata=metadata),
    }
    for name, contents in cases.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(contents)
        with pytest.raises(WeightsRejected, match=name):
            AnimateModel.load(path)
    with pytest.raises(WeightsRejected, match="missing"):
        AnimateModel.load(tmp_path / "missing.safetensors")


def test_a_replaced_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "PACKAGED_DIGEST", "sha256:" + 64 * "0")
    with pytest.raises(WeightsRejected, match="not the released ones"):
        AnimateModel.load()


def test_loading_leaves_the_random_numbers_of_others_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    AnimateModel.load()
    assert torch.equal(torch.rand(3), expected)


def test_the_weights_say_how_they_were_made() -> None:
    data = packaged()
    about = checkpoint.metadata_of(data)
    assert about["command"].startswith("python -m workers.animate.train --")
    assert int(about["steps"]) > 1000
    assert json.loads(about["architecture"])["widths"]
    assert len(data) <= 12 * 10**6
