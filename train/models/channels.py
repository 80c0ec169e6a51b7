"""Widths of layers: what pruning changed is written into the specification, and given to a fresh network here."""

from __future__ import annotations

from torch import nn

Channels = dict[str, tuple[int, int, int]]  # module name: channels in, channels out, groups


def read_channels(net: nn.Module) -> Channels:
    """Widths of every convolution, batch norm and activation with weights, by module name."""
    found: Channels = {}
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            found[name] = (module.in_channels, module.out_channels, module.groups)
        elif isinstance(module, nn.BatchNorm2d):
            found[name] = (module.num_features, module.num_features, 1)
        elif isinstance(module, nn.PReLU):
            found[name] = (module.num_parameters, module.num_parameters, 1)
    return found


def resize(net: nn.Module, channels: Channels) -> None:
    """Replace the named layers by fresh ones of those widths, in place."""
    for name, (channels_in, channels_out, groups) in channels.items():
        parent, _, child = name.rpartition(".")
        owner = net.get_submodule(parent)
        layer = getattr(owner, child)
        if isinstance(layer, nn.Conv2d):
            new: nn.Module = nn.Conv2d(channels_in, channels_out, layer.kernel_size, layer.stride, layer.padding,  # type: ignore[arg-type]
                                       groups=groups, bias=layer.bias is not None)
        else:
            new = type(layer)(channels_out)
        setattr(owner, child, new)
