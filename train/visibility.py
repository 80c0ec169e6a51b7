"""Learning which keypoints are visible (v = 2) and which hidden (v = 1): labels, loss and measure. Knows no network."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from edgekp.errors import DataError
from edgekp.sample import Float, Instance, Int

HIDDEN, VISIBLE = 1, 2


def require_both_kinds(instances: Iterable[Instance]) -> None:
    """Refuse to learn visibility from labels that tell nothing of it.

    Raises:
        DataError: All labelled keypoints are visible, or all are hidden.
    """
    labels = np.concatenate([instance.visibility for instance in instances])
    found = {name: int((labels == v).sum()) for name, v in (("visible (v = 2)", VISIBLE), ("hidden (v = 1)", HIDDEN))}
    missing = [name for name, count in found.items() if not count]
    if missing:
        raise DataError(f"model.visibility: none of the {sum(found.values())} labelled keypoints to learn from is "
                        f"{missing[0]}, a class without labels; label some, or leave model.visibility out")


def visibility_loss(logits: Tensor, visible: Tensor, weight: Tensor) -> Tensor:
    """(N, K) binary cross entropy in nats, times the weight of each keypoint, which is 0 where none is labelled.

    Args:
        logits: (N, K), of being visible.
        visible: (N, K), 1 for visible, 0 for hidden.
    """
    return F.binary_cross_entropy_with_logits(logits.float(), visible, reduction="none") * weight


def balanced_accuracy(visible: Float, visibility: Int) -> float:
    """Mean over the kinds of keypoints there are of the share that is told right: always saying one gets 0.5.

    Args:
        visible: (N, K) probabilities.
        visibility: (N, K) labels; not labelled ones (0) are left out. At least one is labelled.
    """
    right = (visible > 0.5) == (visibility == VISIBLE)
    kinds = [visibility == kind for kind in (HIDDEN, VISIBLE)]
    return float(np.mean([right[kind].mean() for kind in kinds if kind.any()]))
