"""Spatial transformer (Jaderberg et al., NIPS 2015): a small network puts the input upright for the next one.

Knows nothing of that next one but that it says coordinates, in the units of the regression codec.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.models.layers import ConvBN

WIDTHS = (8, 16, 32, 32)  # of the localiser's convolutions, each of stride 2: 2.9 million MACs at 112 x 112
STRIDE = 16
PACE = 0.1  # of the similarity: at that of the rest, a rate of 0.01 throws it about, and eight samples are not learnt
IDENTITY = (1.0, 0.0, 0.0, 0.0)


class SpatialTransformer(nn.Module):
    """A turn, scale and shift of the input (N, 3, h, w), the same for the network's coordinates back again.

    A similarity and no affine map: a shear or two scales would change the faces' shapes, by which keypoints are told
    apart, and an error in the upright frame would be larger in one direction than in the other.
    It is four numbers (a, b, x, y): a point at (u, v) from the upright frame's centre is found at
    (a u - b v, b u + a v) + (x w, y h) from the input's centre, all in pixels. a = s cos t and b = s sin t, so that
    nothing needs a sine, and no number has a jump. Sums are fused multiplications and additions, in float32 under
    autocast, and not rounded in int8.
    """

    grid_xy: Tensor

    def __init__(self, input_hw: tuple[int, int]) -> None:
        super().__init__()
        channels = (3, *WIDTHS)
        self.look = nn.Sequential(*(ConvBN(channels[i], channels[i + 1], 3, stride=2) for i in range(len(WIDTHS))))
        last, (h, w) = WIDTHS[-1], (-(-side // STRIDE) for side in input_hw)
        self.whole = nn.Sequential(nn.Conv2d(last, last, (h, w), groups=last, bias=False), nn.BatchNorm2d(last),
                                   ConvBN(last, last, 1))
        self.output = nn.Conv2d(last, len(IDENTITY), 1)
        nn.init.zeros_(self.output.weight)
        assert self.output.bias is not None
        with torch.no_grad():
            self.output.bias.copy_(torch.tensor(IDENTITY))
        self.h_by_w = input_hw[0] / input_hw[1]
        height, width = self.input_hw = input_hw
        x, y = ((torch.arange(side) + 0.5) / side - 0.5 for side in (width, height))  # the regression codec's units
        grid_xy = torch.stack([x.repeat(height), y.repeat_interleave(width)], dim=1)
        self.register_buffer("grid_xy", grid_xy[None], persistent=False)  # (1, h * w, 2)

    def locate(self, image: Tensor) -> Tensor:
        """The similarity (N, 4) of each input; at first the one that changes nothing."""
        found: Tensor = self.output(PACE * self.whole(self.look(image))).float()
        return found.flatten(1)

    def upright(self, image: Tensor, similarity: Tensor) -> Tensor:
        """(N, 3, h, w) as the similarity shows it, 0 where it reaches out of the input."""
        h, w = self.input_hw
        at = self.to_input(self.grid_xy, similarity).reshape(-1, h, w, 2) * 2  # grid_sample's units: -1 to 1
        return F.grid_sample(image, at, mode="bilinear", padding_mode="zeros", align_corners=False)

    def to_input(self, coordinates: Tensor, similarity: Tensor) -> Tensor:
        """Coordinates (N, K, 2) of the upright frame as those of the input."""
        a, b, x, y = similarity[:, :, None].unbind(1)  # (N, 1) each
        u, v = coordinates.unbind(-1)  # fractions of the width and of the height
        turned_u = torch.addcmul(torch.addcmul(x, a, u), b, v * self.h_by_w, value=-1)
        turned_v = torch.addcmul(torch.addcmul(y, a, v), b, u / self.h_by_w)
        return torch.stack([turned_u, turned_v], -1)
