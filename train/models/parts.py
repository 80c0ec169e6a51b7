"""What a network is put together from: a backbone, at most one neck, and a head. What each promises the next one."""

from __future__ import annotations

from typing import ClassVar

from torch import nn


class Backbone(nn.Module):
    """(N, 3, h, w) to a tuple of feature maps, the finest first. Options are keywords with defaults.

    Attributes:
        widths: channels of each map.
        strides: input pixels per cell of each map.
        coarsest_stride: what the sides of the input must be multiples of.
    """

    widths: tuple[int, ...]
    strides: tuple[int, ...]
    coarsest_stride: int


class Neck(nn.Module):
    """The backbone's maps to one map, as a tuple of one; made from (widths, strides) and options with defaults.

    Attributes:
        widths: of the one map, as of a backbone.
        strides: the same.
    """

    widths: tuple[int, ...]
    strides: tuple[int, ...]


class Head(nn.Module):
    """Feature maps to one tensor per output; made from (widths, strides, keypoints, input_hw) and options.

    A head of several stages says all its outputs once a stage while it trains, the last stage last, and only those of
    the last stage in evaluation mode. The last layer, or the module that holds the last layers, is ``output``: steps
    of optimization leave it alone.

    Attributes:
        outputs: names, as the codec decodes them.
        maps: of how many feature maps it can make use.
    """

    outputs: ClassVar[tuple[str, ...]]
    maps: ClassVar[tuple[int, ...]]
