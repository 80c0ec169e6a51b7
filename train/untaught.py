"""Keypoints that no label teaches: the network will say something for them all the same, and it will mean nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekp.errors import DataError
from edgekp.skeletons import Skeleton
from edgekp.stage import say
from train.dataset import Pool


def say_untaught(pools: Sequence[Pool], skeleton: Skeleton) -> None:
    """Name the keypoints that are labelled nowhere in the training sets.

    Raises:
        DataError: None is labelled at all.
    """
    labelled = np.zeros(len(skeleton), bool)
    for pool in pools:
        for instance in pool.instances:
            labelled |= instance.labelled
    names = [name for name, is_labelled in zip(skeleton.keypoints, labelled, strict=True) if not is_labelled]
    if len(names) == len(skeleton):
        raise DataError("the training sets have not one labelled keypoint (v = 1 or 2): there is nothing to "
                        "learn; label some")
    if names:
        say(f"data: warning: nothing teaches {', '.join(names)}: no training set has a label for "
            f"{'them' if len(names) > 1 else 'it'}, and what the model says there will mean nothing")
