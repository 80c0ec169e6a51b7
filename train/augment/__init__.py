"""Random changes to a training sample: where the crop looks, what light it sees, and what stands in front.

Pixels, keypoints and visibility change together. Knows no file and no network.
"""

from train.augment.light import add_noise, recolor
from train.augment.multi_scale import input_hw_of_step
from train.augment.occlusion import hide
from train.augment.view import draw_view, look

__all__ = ["add_noise", "draw_view", "hide", "input_hw_of_step", "look", "recolor"]
