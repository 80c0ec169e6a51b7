"""ResNet (He et al., CVPR 2016) with a choice of width, of the coarsest stride and of attention in its blocks."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from edgekp.errors import RecipeError
from train.models.attention import attention_named
from train.models.layers import ConvBN
from train.models.parts import Backbone

# by depth: channels that a block gives per channel of its 3 x 3 convolutions, and blocks a stage; the paper's table 1
LAYOUTS = {18: (1, (2, 2, 2, 2)), 34: (1, (3, 4, 6, 3)), 50: (4, (3, 4, 6, 3))}
FIRST_STRIDE = 4  # of the first stage


class ResNet(Backbone):
    """(N, 3, h, w) to one map per stride from 4 to ``output_stride``; width 64 and stride 32 are the paper's.

    A stage that would become too coarse does not stride but dilates, so that every weight sees the same picture on a
    finer grid (DeepLab, Chen et al., 2017). Where stages share a stride, the map is that of the last (as in FPN).
    Residuals do not start at zero as in Goyal et al. (2017): that helps batches of thousands, not those of one machine.

    Args:
        depth: 18 or 34 with two 3 x 3 convolutions a block, 50 with bottlenecks.
        width: channels of the first 3 x 3 convolutions; each stage doubles it.
        output_stride: of the coarsest map, input pixels per cell.
        attention: at the end of every block.
    """

    def __init__(self, depth: int = 18, width: int = 64, output_stride: int = 32,
                 attention: Literal["none", "se", "cbam"] = "none") -> None:
        super().__init__()
        if depth not in LAYOUTS or width < 8 or width % 8 or output_stride not in (8, 16, 32):
            raise RecipeError(f"model.options: depth {depth}, expected {' or '.join(map(str, LAYOUTS))}; width "
                              f"{width}, expected a multiple of 8; output_stride {output_stride}, expected 8, 16 or "
                              "32")
        expansion, counts = LAYOUTS[depth]
        self.stage_strides = tuple(min(FIRST_STRIDE << i, output_stride) for i in range(len(counts)))
        dilations = [(FIRST_STRIDE << i) // stride for i, stride in enumerate(self.stage_strides)]
        self.stem = nn.Sequential(ConvBN(3, width, 7, 2), nn.MaxPool2d(3, 2, 1))
        self.stages, channels = nn.ModuleList(), width
        for i, count in enumerate(counts):
            before = max(i - 1, 0)  # the stage whose grid the first block reads
            first = Block(channels, width << i, expansion, self.stage_strides[i] // self.stage_strides[before],
                          (dilations[before], dilations[i]), attention)
            channels = expansion * width << i
            others = (Block(channels, width << i, expansion, 1, (dilations[i], dilations[i]), attention)
                      for _ in range(count - 1))
            self.stages.append(nn.Sequential(first, *others))
        width_of = {stride: expansion * width << i for i, stride in enumerate(self.stage_strides)}
        self.widths, self.strides, self.coarsest_stride = tuple(width_of.values()), tuple(width_of), output_stride

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(image)
        map_of: dict[int, Tensor] = {}
        for stride, stage in zip(self.stage_strides, self.stages, strict=True):
            x = map_of[stride] = stage(x)
        return tuple(map_of.values())


class Block(nn.Module):
    """A residual function and its shortcut, projected where the shape changes.

    Args:
        width: channels of the 3 x 3 convolutions: two, or one between two of 1 x 1 where ``expansion`` is above 1. The
            bottleneck strides in its 3 x 3, which reads all cells, and not in its first 1 x 1 (Goyal et al., 2017).
        dilations: of the first 3 x 3 convolution, which reads the grid before the stride, and of the second.
    """

    def __init__(self, channels_in: int, width: int, expansion: int, stride: int, dilations: tuple[int, int],
                 attention: str) -> None:
        super().__init__()
        channels_out = expansion * width
        if expansion == 1:
            convs = [ConvBN(channels_in, width, 3, stride, dilation=dilations[0]),
                     ConvBN(width, width, 3, dilation=dilations[1], activation=None)]
        else:
            convs = [ConvBN(channels_in, width, 1), ConvBN(width, width, 3, stride, dilation=dilations[0]),
                     ConvBN(width, channels_out, 1, activation=None)]
        self.body = nn.Sequential(*convs, attention_named(attention, channels_out))
        self.shortcut = (nn.Identity() if stride == 1 and channels_in == channels_out else
                         ConvBN(channels_in, channels_out, 1, stride, activation=None))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.shortcut(x) + self.body(x))
        return out
