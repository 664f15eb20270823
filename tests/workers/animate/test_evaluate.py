"""The gate for weights: better than no motion, and than the best guess that has not seen the photo."""

import json

import pytest
import torch

from workers.animate.evaluate import direction_error_degrees, end_point_error_px, main, region_overlap
from workers.animate.motion import FACTOR_CHANNELS, GRID, TIME_CHANNELS


def shifted(x: float, y: float) -> torch.Tensor:
    coefficients = torch.zeros(1, TIME_CHANNELS, 2, GRID, GRID)
    coefficients[:, 0, 0], coefficients[:, 0, 1] = x, y
    return coefficients


def test_errors_of_known_motions() -> None:
    # A drift of 3/4 sides in x and 1 in y: on average over eight moments half of 5/4 sides of 512 px.
    assert end_point_error_px(shifted(0, 0), shifted(0.75, 1.0)) == pytest.approx(320, rel=1e-4)
    assert direction_error_degrees(shifted(1, 0), shifted(0, 1)) == pytest.approx(90)
    assert direction_error_degrees(shifted(1, 0), shifted(1, 1)) == pytest.approx(45)


def test_overlap_of_known_regions() -> None:
    first, second = torch.full((2, 1, FACTOR_CHANNELS, 4, 4), -1.0)
    first[:, 0, :2], second[:, 0, 1:3] = 1, 1
    assert region_overlap(first, second) == pytest.approx(1 / 3)


def test_the_packaged_weights_pass_the_gate(capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    main(["--json", "--scenes", "6", "--template-scenes", "32"])
    torch.set_num_threads(threads)
    figures = json.loads(capsys.readouterr().out)
    average = figures["average"]
    assert average["epe_px"] < 0.9 * average["epe_template_px"]
    assert figures["beats_template"]
    assert average["epe_px"] < 0.7 * average["epe_zero_px"]
    assert average["direction_error_degrees"] < 20
    assert average["folded_share"] < 0.01
    assert figures["loop_gap_px"] < 1e-2
    assert figures["still_px"] == 0
