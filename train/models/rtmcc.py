"""RTMPose's head (Jiang et al., 2023): SimCC's bins from keypoints that have exchanged what they know by attention."""

from __future__ import annotations

from math import sqrt
from typing import ClassVar

import torch
from torch import Tensor, nn

from edgekp.errors import RecipeError
from train.models.heads import halvings
from train.models.parts import Head

KERNEL = 7
QUIET = 0.3  # attention starts small beside the shortcut; with RTMPose's 1, a rate of 0.01 fails to learn 8 samples
SMALLEST_MEAN_SQUARE = 1e-6  # a keypoint whose map is dark stays small instead of becoming noise


class RTMCCHead(Head):
    """One map per keypoint by a 7 x 7 convolution, an embedding of each, a gated attention unit, and the bins.

    Args:
        bins_x, bins_y: of the codec.
        hidden: length of a keypoint's embedding, a multiple of 8.
    """

    outputs: ClassVar[tuple[str, ...]] = ("simcc_x", "simcc_y")
    maps: ClassVar[tuple[int, ...]] = (1, 2, 3)

    def __init__(self, widths: tuple[int, ...], strides: tuple[int, ...], keypoints: int,
                 input_hw: tuple[int, int], *, bins_x: int, bins_y: int, hidden: int = 256) -> None:
        super().__init__()
        if hidden < 8 or hidden % 8:
            raise RecipeError(f"model.head_options.hidden: {hidden}, expected a multiple of 8")
        self.reduce, width, stride = halvings(widths[-1], strides[-1])
        h, w = (-(-side // stride) for side in input_hw)
        self.output = AttendedBins(width, keypoints, h * w, hidden, bins_x, bins_y)

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        bins: tuple[Tensor, ...] = self.output(self.reduce(features[-1]))
        return bins


class AttendedBins(nn.Module):
    """From (N, C, h, w) to the bins (N, K, bins) of each axis.

    Keypoints are the columns of (N, channels, K, 1), so that linear layers are 1 x 1 convolutions, counted like others.
    """

    def __init__(self, channels: int, keypoints: int, cells: int, hidden: int, bins_x: int, bins_y: int) -> None:
        super().__init__()
        self.maps = nn.Conv2d(channels, keypoints, KERNEL, padding=KERNEL // 2)
        self.norm = ScaleNorm()
        self.embed = nn.Conv2d(cells, hidden, 1, bias=False)
        self.attend = GatedAttention(hidden)
        self.x = nn.Conv2d(hidden, bins_x, 1, bias=False)
        self.y = nn.Conv2d(hidden, bins_y, 1, bias=False)

    def forward(self, feature: Tensor) -> tuple[Tensor, ...]:
        keypoints, cells = self.maps.out_channels, self.embed.in_channels
        flat = self.maps(feature).reshape(-1, keypoints, cells, 1).transpose(1, 2)  # (N, h * w, K, 1)
        attended = self.attend(self.embed(self.norm(flat)))
        return tuple(layer(attended).reshape(-1, layer.out_channels, keypoints).transpose(1, 2)
                     for layer in (self.x, self.y))


class GatedAttention(nn.Module):
    """Gated attention unit (Hua et al., ICML 2022) over the keypoints of (N, hidden, K, 1), with a shortcut.

    Without a bias for relative positions, as in RTMPose's own configurations (``use_rel_bias=False``): the order of
    keypoints is a list's, in which the distance from nose to ankle means nothing. What an embedding belongs to, it
    says itself, as its map has weights of its own. Sums are fused multiplications and additions, which int8, where
    this stays in float, does not round.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        wide, self.narrow = 2 * hidden, hidden // 2  # RTMPose: expansion 2, and 128 of 256
        self.norm = ScaleNorm()
        self.gate, self.value, self.base = (nn.Conv2d(hidden, width, 1, bias=False)
                                            for width in (wide, wide, self.narrow))
        self.activation = nn.SiLU()
        self.scale = nn.Parameter(QUIET * torch.rand(2, self.narrow, 1, 1))  # query, key
        self.shift = nn.Parameter(QUIET * torch.rand(2, self.narrow, 1, 1))
        self.mix = nn.Conv2d(wide, hidden, 1, bias=False)
        self.shortcut = nn.Parameter(torch.ones(hidden, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        gate, value, base = (self.activation(layer(normed)) for layer in (self.gate, self.value, self.base))
        query, key = (torch.addcmul(self.shift[i], base, self.scale[i]).squeeze(-1) for i in range(2))
        weights = torch.relu(query.transpose(1, 2) @ key / sqrt(self.narrow)).square()  # (N, K, K), to each from all
        gathered = (value.squeeze(-1) @ weights.transpose(1, 2)).unsqueeze(-1)
        return torch.addcmul(self.mix(gate * gathered), self.shortcut, x)


class ScaleNorm(nn.Module):
    """Each keypoint of (N, C, K, 1) divided by its root mean square, times one learnt gain (Nguyen & Salazar, 2019).

    In float32 under autocast. The smallest mean square is a limit and no summand: near zero the gradient stays finite.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        return x / x.square().mean(1, keepdim=True).clamp_min(SMALLEST_MEAN_SQUARE).sqrt() * self.gain
