"""HRNet-lite: high resolution kept beside coarser branches that exchange what they see (Sun et al., CVPR 2019).

Dense 3 x 3 blocks by default, because latency decides and not MACs: one thread of ONNX Runtime needs 9.1 ms for the
dense net and 2.3 ms for the depthwise one in float, but INT8 makes the dense one 2.4 x faster and the depthwise one
slower (0.9 x). ReLU, bilinear upsampling and no dead branches, so that INT8, TensorRT and pruning find nothing odd.
"""

from __future__ import annotations

from functools import reduce
from itertools import pairwise
from operator import add
from typing import Literal

from torch import Tensor, nn

from edgekp.errors import RecipeError
from train.models.layers import ConvBN, DepthwiseBlock, ResidualBlock
from train.models.parts import Backbone

BLOCKS = {"dense": ResidualBlock, "depthwise": DepthwiseBlock}
STEM_CHANNELS = 32


class HRNetLite(Backbone):
    """(N, 3, h, w) to one feature map of ``width`` channels at stride 4.

    Args:
        width: channels of the finest branch; each coarser branch doubles it. 48 with ``blocks=4`` is the big sister.
        branches: resolutions, 1/4 of the input and then halved.
        blocks: residual blocks per branch between two exchanges.
        modules: exchanges at full number of branches.
        attention: at the end of every block.
    """

    def __init__(self, width: int = 32, branches: int = 3, blocks: int = 2, modules: int = 2,
                 block: Literal["dense", "depthwise"] = "dense",
                 attention: Literal["none", "se", "cbam"] = "none") -> None:
        super().__init__()
        if width < 8 or width % 8 or branches not in (2, 3, 4) or blocks < 1 or modules < 1 or block not in BLOCKS:
            raise RecipeError(f"model.options: width {width}, expected a multiple of 8; branches {branches}, expected "
                              f"2 to 4; blocks {blocks} and modules {modules}, expected 1 or more; block '{block}', "
                              f"expected {' or '.join(BLOCKS)}")
        widths = [width * 2**i for i in range(branches)]
        self.widths, self.strides = (width,), (4,)
        self.coarsest_stride = 4 * 2 ** (branches - 1)
        self.stem = nn.Sequential(ConvBN(3, STEM_CHANNELS, 3, 2), ConvBN(STEM_CHANNELS, width, 3, 2))
        self.downs = nn.ModuleList(ConvBN(fine, coarse, 3, 2) for fine, coarse in pairwise(widths))
        self.stages = nn.ModuleList()
        for count in range(2, branches + 1):
            repeats = modules if count == branches else 1
            self.stages.append(nn.ModuleList(
                Exchange(widths[:count], 1 if count == branches and i == repeats - 1 else count, blocks, block,
                         attention)
                for i in range(repeats)))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        branches = [self.stem(image)]
        for down, stage in zip(self.downs, self.stages, strict=True):
            branches = [*branches, down(branches[-1])]
            for exchange in stage:  # type: ignore[attr-defined]
                branches = exchange(branches)
        return (branches[0],)


class Exchange(nn.Module):
    """Blocks on every branch, then every kept branch becomes the sum of all, brought to its resolution.

    The last exchange keeps only the finest branch: what feeds nothing is not built.
    """

    def __init__(self, widths: list[int], kept: int, blocks: int, block: str, attention: str) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BLOCKS[block](width, attention) for _ in range(blocks))) for width in widths)
        self.paths = nn.ModuleList(
            nn.ModuleList(_path(widths, source, goal) for source in range(len(widths))) for goal in range(kept))
        self.relu = nn.ReLU()

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        maps = [branch(x) for branch, x in zip(self.branches, inputs, strict=True)]
        return [self.relu(reduce(add, (path(x) for path, x in zip(paths, maps, strict=True))))  # type: ignore[call-overload]
                for paths in self.paths]


def _path(widths: list[int], source: int, goal: int) -> nn.Module:
    """From one branch to another: nothing, a 1 x 1 convolution and upsampling, or strided convolutions."""
    if source == goal:
        return nn.Identity()
    if source > goal:
        return nn.Sequential(ConvBN(widths[source], widths[goal], 1, activation=None),
                             nn.Upsample(scale_factor=2 ** (source - goal), mode="bilinear", align_corners=False))
    steps = goal - source
    return nn.Sequential(*(
        ConvBN(widths[source], widths[source] if i < steps - 1 else widths[goal], 3, 2) if i < steps - 1
        else ConvBN(widths[source], widths[goal], 3, 2, activation=None) for i in range(steps)))
