"""Object keypoint similarity as a loss of coordinates: what COCO measures, one keypoint at a time."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from edgekp.coco import AREA_OF_BOX
from edgekp.contract import AnyContract
from train.losses.loss import Tensors


def oks(outputs: Tensors, targets: Tensors, weight: Tensor, *, input_wh: tuple[int, int],
        spread_px2: tuple[float, ...]) -> Tensor:
    """1 - OKS of each keypoint (YOLO-Pose, Maji et al., CVPRW 2022), from coordinates as fractions of the input.

    It is flat for keypoints that are far away: at 4 spreads its gradient is 1/450 of the largest, which is at 1. A
    network that is near already, such as one that recovers from pruning, can do with it; to begin with, ``smooth_l1``
    and ``wing`` pull from everywhere.

    Args:
        input_wh: width and height of the input, pixels.
        spread_px2: square of the distance at which a keypoint has similarity exp(-1/2), for each of K, pixels squared.
    """
    (output,), (target,) = outputs, targets
    squared_px = ((output - target) * output.new_tensor(input_wh)).square().sum(-1)
    return -(-squared_px / (2 * output.new_tensor(spread_px2))).expm1() * weight


def seen_by(contract: AnyContract) -> dict[str, Any]:
    """The keywords of ``oks``: the size of the input, and each keypoint's spread squared in input pixels squared.

    As in COCO that is ``(2 sigma)^2`` times the person's area, which no crop is told. All are taken for the median
    person, 0.53 of a box of the input's shape, enlarged by the padding. A box half as wide as that is half the area in
    the crop, and COCO stricter with it than the loss.
    """
    h, w = contract.input.input_hw
    area_px2 = AREA_OF_BOX * h * w / contract.input.padding**2
    return {"input_wh": (w, h), "spread_px2": tuple((2 * sigma) ** 2 * area_px2 for sigma in contract.skeleton.sigmas)}
