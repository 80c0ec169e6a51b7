"""Channel shuffle: how two halves of a map that go separate ways come to see each other. Knows no backbone."""

from __future__ import annotations

from torch import Tensor, fx


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the second half of the channels."""
    first, second = x.chunk(2, dim=1)
    return first, second


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """The channels of equal groups, dealt out in turn (ShuffleNet, Zhang et al., CVPR 2018, figure 1).

    Args:
        x: (N, C, H, W), C a multiple of ``groups``. Shuffling into C / ``groups`` groups undoes it.
    """
    return _dealt_out(x, groups)


@fx.wrap  # one step of a graph, in which the sizes stay numbers
def _dealt_out(x: Tensor, groups: int) -> Tensor:
    """Numbers and not traced sizes, N left open: a quantized graph has too many of them for a simplifier to fold."""
    channels, h, w = (int(size) for size in x.shape[1:])
    return x.reshape(-1, groups, channels // groups, h, w).transpose(1, 2).reshape(-1, channels, h, w)
