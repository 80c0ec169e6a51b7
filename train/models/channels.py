"""Widths of layers: what pruning changed is written into the specification, and given to a fresh network here."""

from __future__ import annotations

from typing import Any

from torch import nn

Channels = dict[str, tuple[int, int, int]]  # module name: channels in, channels out, groups


def read_channels(net: nn.Module) -> Channels:
    """Widths of every convolution, linear layer, batch norm and activation with weights, by module name."""
    found: Channels = {}
    for name, module in net.named_modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            found[name] = (module.in_channels, module.out_channels, module.groups)
        elif isinstance(module, nn.Linear):
            found[name] = (module.in_features, module.out_features, 1)
        elif isinstance(module, nn.BatchNorm2d):
            found[name] = (module.num_features, module.num_features, 1)
        elif isinstance(module, nn.PReLU):
            found[name] = (module.num_parameters, module.num_parameters, 1)
    return found


def resize(net: nn.Module, channels: Channels) -> None:
    """Replace the named layers by fresh ones of those widths, in place; all else about them stays."""
    for name, (channels_in, channels_out, groups) in channels.items():
        parent, _, child = name.rpartition(".")
        owner = net.get_submodule(parent)
        setattr(owner, child, _resized(getattr(owner, child), channels_in, channels_out, groups))


def _resized(layer: nn.Module, channels_in: int, channels_out: int, groups: int) -> nn.Module:
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
        same: dict[str, Any] = {name: getattr(layer, name) for name in ("kernel_size", "stride", "padding", "dilation")}
        if isinstance(layer, nn.ConvTranspose2d):
            same["output_padding"] = layer.output_padding
        return type(layer)(channels_in, channels_out, groups=groups, bias=layer.bias is not None, **same)
    if isinstance(layer, nn.Linear):
        return nn.Linear(channels_in, channels_out, bias=layer.bias is not None)
    return type(layer)(channels_out)
