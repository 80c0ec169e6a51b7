"""Doubling a feature map, by interpolation or by transposed convolution. Knows not which part asks for it."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from edgekp.errors import RecipeError, unknown_name
from train.models.layers import Activation, ConvBN, relu

Doubling = Callable[[int, int], nn.Module]


class DeconvBN(nn.Sequential):
    """Transposed convolution, batch norm and, unless None, an activation.

    The kernel is twice the stride, so that every cell is written equally often (Odena et al., 2016).
    """

    def __init__(self, channels_in: int, channels_out: int, activation: Activation | None = relu) -> None:
        layers: list[nn.Module] = [nn.ConvTranspose2d(channels_in, channels_out, 4, 2, 1, bias=False),
                                   nn.BatchNorm2d(channels_out)]
        if activation is not None:
            layers.append(activation(channels_out))
        super().__init__(*layers)


def bilinear() -> nn.Upsample:
    return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)


def resize_conv(channels_in: int, channels_out: int) -> nn.Sequential:
    """Interpolation, then a 3 x 3 convolution: no checkerboard to unlearn (Odena et al., 2016)."""
    return nn.Sequential(bilinear(), ConvBN(channels_in, channels_out, 3))


DOUBLINGS: dict[str, Doubling] = {"transposed": DeconvBN, "bilinear": resize_conv}


def doubling_named(name: str, where: str) -> Doubling:
    """The learnt doubling that the option at ``where`` asks for, to be made from channels in and out.

    Raises:
        RecipeError: No doubling has that name.
    """
    if name not in DOUBLINGS:
        raise RecipeError(f"{where}: {unknown_name('upsampling', name, list(DOUBLINGS))}")
    return DOUBLINGS[name]
