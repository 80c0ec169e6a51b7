"""A network with preprocessing before it and decoding behind it, as one module: uint8 crops in, keypoints out.

For runtimes whose program should know neither means nor codecs. The crop itself stays outside: it depends on the box.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deploy.export.embedded_decode import decoder_of
from edgekp.contract import VISIBILITY, AnyContract, Contract
from edgekp.errors import RecipeError
from edgekp.preprocess import InputSpec

CROP_NAME, KEYPOINTS_NAME = "crop_bgr", "keypoints"
PREPROCESS, DECODE = "preprocess", "decode"


class Preprocess(nn.Module):
    """The input (N, 3, h, w) float32 of (N, h, w, 3) uint8 BGR crops: ``edgekp.preprocess.normalise`` in a graph."""

    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        self.order = [2, 1, 0] if spec.color == "RGB" else [0, 1, 2]
        self.mean = nn.Parameter(torch.tensor(spec.mean)[:, None, None], requires_grad=False)
        self.std = nn.Parameter(torch.tensor(spec.std)[:, None, None], requires_grad=False)

    def forward(self, crop_bgr: Tensor) -> Tensor:
        blue_green_red = crop_bgr.float().permute(0, 3, 1, 2).chunk(3, 1)
        return (torch.cat([blue_green_red[i] for i in self.order], 1) - self.mean) / self.std


class Embedded(nn.Module):
    """The network with what its contract says before and behind it."""

    def __init__(self, net: nn.Module, contract: AnyContract, parts: tuple[str, ...]) -> None:
        super().__init__()
        self.before = Preprocess(contract.input) if PREPROCESS in parts else nn.Identity()
        self.net = net
        self.behind = decoder_in_graph(contract) if DECODE in parts else None
        self.says = len(contract.codec.outputs)

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = self.net(self.before(inputs))
        if self.behind is None:
            return outputs
        return self.behind(*outputs[:self.says]), *(logits.sigmoid() for logits in outputs[self.says:])


def decoder_in_graph(contract: AnyContract) -> nn.Module:
    """The decoder of a contract's codec as a module.

    Raises:
        RecipeError: There is none.
    """
    if not isinstance(contract, Contract):
        raise RecipeError("export.embed: 'decode', but codec 'openpose' puts people together outside the graph; leave "
                          "'decode' out")
    return decoder_of(contract.codec)


def embedded_outputs(contract: AnyContract, parts: tuple[str, ...]) -> tuple[str, ...]:
    """Names of what such a module says: keypoints (N, K, 3), and with them probabilities of visibility, not logits."""
    if DECODE not in parts:
        return contract.outputs
    return (KEYPOINTS_NAME, *(name for name in contract.outputs if name == VISIBILITY))


def example_input(contract: AnyContract, parts: tuple[str, ...], batch: int) -> tuple[str, Tensor]:
    """Name of the module's input, and zeros of its shape and type."""
    h, w = contract.input.input_hw
    if PREPROCESS in parts:
        return CROP_NAME, torch.zeros(batch, h, w, 3, dtype=torch.uint8)
    return "input", torch.zeros(batch, 3, h, w)
