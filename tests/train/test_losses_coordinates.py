"""Smooth L1 and OKS: losses of coordinates as fractions of the input, told in pixels by independent formulas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgekp.codecs import Regression
from edgekp.contract import Contract
from edgekp.preprocess import InputSpec, crop_affine, transform
from edgekp.similarity import oks as measured_oks
from edgekp.skeletons import COCO17
from train.losses import SMOOTH_WIDTH, loss_named, smooth_l1

INPUT_HW = (256, 192)
CONTRACT = Contract(InputSpec(INPUT_HW), Regression(INPUT_HW), COCO17)


def smooth_of(distance: float) -> float:
    """The loss of one keypoint that is off by that much, in fractions of the input, in both coordinates."""
    return float(smooth_l1((torch.full((1, 1, 2), distance, dtype=torch.float64),),
                           (torch.zeros(1, 1, 2, dtype=torch.float64),), torch.ones(1, 1)))


@pytest.mark.parametrize("pixels", [0.0, 0.2, 0.999, 1.0, 1.001, 30.0])
def test_smooth_l1_is_quadratic_within_a_pixel_of_a_112_pixel_face(pixels: float) -> None:
    expected = 0.5 * pixels**2 if pixels < 1 else pixels - 0.5  # Girshick, equation 3, in pixels
    assert smooth_of(pixels / 112) == pytest.approx(expected / 112, abs=1e-12)


def test_smooth_l1_has_no_jump_and_no_kink_where_square_meets_line() -> None:
    step = 1e-7
    left, seam, right = (smooth_of(SMOOTH_WIDTH + side * step) for side in (-1, 0, 1))
    assert (right - seam) / step == pytest.approx(1, rel=1e-6)
    assert (seam - left) / step == pytest.approx(1, rel=1e-4)  # the slope there grows by step / width


def test_oks_loss_is_what_the_metric_leaves_of_a_person_whose_box_has_the_inputs_shape(
        rng: np.random.Generator) -> None:
    """Measured in the image with the metric's own function, learnt from fractions of the crop."""
    bbox_xywh = np.array([40.0, 30.0, 75.0, 100.0])  # 3 : 4, as the input
    area_px2 = np.array([0.53 * 75 * 100])
    true_xy = rng.uniform((45, 35), (110, 125), (1, 17, 2))
    found_xy = true_xy + rng.normal(0, 4, true_xy.shape)
    to_input = crop_affine(bbox_xywh, INPUT_HW, CONTRACT.input.padding)
    target, output = (
        torch.from_numpy(CONTRACT.codec.encode(transform(xy, to_input), np.full((1, 17), 2)).arrays["coordinates"])
        for xy in (true_xy, found_xy))
    losses = loss_named("oks", CONTRACT).of((output,), (target,), torch.ones(1, 17))
    for k in range(17):
        similarity = measured_oks(found_xy[:, k:k + 1], true_xy[:, k:k + 1], np.ones((1, 1), bool), area_px2,
                                  COCO17.sigma_array[k:k + 1])
        assert float(losses[0, k]) == pytest.approx(1 - similarity[0], abs=2e-5)  # coordinates are float32


def test_oks_loss_forgives_what_annotators_do_not_agree_on() -> None:
    off = torch.zeros(1, 17, 2)
    off[..., 0] = 5 / INPUT_HW[1]
    losses = loss_named("oks", CONTRACT).of((off,), (torch.zeros(1, 17, 2),), torch.ones(1, 17))[0]
    order = losses.argsort(descending=True)
    sigmas = torch.tensor(COCO17.sigmas)[order]
    assert torch.equal(sigmas, sigmas.sort().values)


def test_oks_loss_weighs_a_pixel_the_same_along_both_axes_and_in_inputs_of_any_size() -> None:
    half = (128, 96)
    small = replace(CONTRACT, input=InputSpec(half), codec=Regression(half))
    losses = []
    for contract, xy in ((CONTRACT, (6 / 192, 0.0)), (CONTRACT, (0.0, 6 / 256)), (small, (3 / 96, 0.0))):
        output = torch.tensor(xy, dtype=torch.float64).expand(1, 17, 2)
        losses.append(loss_named("oks", contract).of((output,), (torch.zeros_like(output),), torch.ones(1, 17)))
    for other in losses[1:]:
        torch.testing.assert_close(other, losses[0], rtol=1e-12, atol=0)


def test_oks_loss_is_exact_for_errors_too_small_for_float32_near_one() -> None:
    output = torch.full((1, 17, 2), 1e-6)
    losses = loss_named("oks", CONTRACT).of((output,), (torch.zeros(1, 17, 2),), torch.ones(1, 17))
    double = loss_named("oks", CONTRACT).of((output.double(),), (torch.zeros(1, 17, 2).double(),), torch.ones(1, 17))
    torch.testing.assert_close(losses.double(), double, rtol=1e-5, atol=0)  # 1 - exp(-x) would say 0


def test_the_gradient_of_oks_is_largest_at_one_spread_and_gone_at_four() -> None:
    spread_px = np.sqrt((2 * COCO17.sigmas[0]) ** 2 * 0.53 * 256 * 192 / 1.25**2)
    gradients = []
    for spreads in (0.5, 1.0, 1.5, 4.0):
        output = torch.zeros(1, 17, 2, dtype=torch.float64)
        output[0, 0, 0] = spreads * spread_px / 192
        output.requires_grad_()
        loss_named("oks", CONTRACT).of((output,), (torch.zeros_like(output),), torch.ones(1, 17)).sum().backward()
        assert output.grad is not None
        gradients.append(float(output.grad[0, 0, 0]))
    assert max(gradients) == gradients[1]
    assert gradients[1] / gradients[3] == pytest.approx(452, rel=0.01)  # e^(-1/2) / (4 e^-8)
