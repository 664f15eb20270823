"""A short training, to know that it learns and that its file can be read."""

from pathlib import Path

import pytest
import torch

from workers.animate import checkpoint
from workers.animate.network import Architecture
from workers.animate.train import ScenePool, main, train

SMALL = Architecture(widths=(16, 24, 32), condition_width=32, stem_width=8)


def test_the_loss_falls() -> None:
    losses: list[float] = []
    _, steps = train(seed=3, steps=36, architecture=SMALL, on_step=lambda step, share, loss: losses.append(loss))
    assert steps == len(losses) == 36
    time = torch.arange(36.0)
    curve = torch.tensor(losses).log()
    slope = ((time - time.mean()) * (curve - curve.mean())).sum() / (time - time.mean()).square().sum()
    assert slope < -0.005, losses
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10]), losses


def test_the_same_seed_trains_the_same_network() -> None:
    first, second = (train(seed=5, steps=2, architecture=SMALL)[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_pool_serves_the_same_batches_for_the_same_seed() -> None:
    first, second = ScenePool(4), ScenePool(4)
    for _ in range(2):
        assert all(torch.equal(one, other) for one, other in zip(first.draw(), second.draw(), strict=True))


def test_the_command_line_writes_a_readable_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "weights.safetensors"
    threads = torch.get_num_threads()
    main(["--steps", "1", "--seed", "9", "--output", str(path)])
    torch.set_num_threads(threads)
    network, digest = checkpoint.load(path)
    about = checkpoint.metadata_of(path.read_bytes())
    assert network.architecture == Architecture()
    assert digest.startswith("sha256:")
    assert about["command"] == "python -m workers.animate.train --steps 1 --seed 9 --output weights.safetensors"
    assert about["steps"] == "1"
    assert "loss" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["weights.safetensors"]


def test_exactly_one_limit() -> None:
    with pytest.raises(ValueError, match="either"):
        train(seed=0)
