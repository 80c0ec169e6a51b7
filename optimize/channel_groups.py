"""Channels that can only leave together, and networks without some of them. Knows neither goal nor data.

Dependency groups are those of torch-pruning (DepGraph, Fang et al., CVPR 2023): where two layers are added, a channel
of one cannot leave without that of the other.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch_pruning as tp
from torch import Tensor, nn

from train.models import KeypointNet

Widths = Mapping[str, int]  # channels by group
Scores = Mapping[str, Tensor]  # (C,) by group: what each of its channels is worth
LARGEST_SHARE = 0.8  # no group loses more of its channels than this
LED_BY = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that leave together.

    Attributes:
        layers: whose outputs they are; the first one gives the group its name.
    """

    layers: tuple[str, ...]
    channels: int


class Dependencies:
    """The dependency groups of a copy of a network, by name."""

    def __init__(self, net: nn.Module, input_hw: tuple[int, int]) -> None:
        assert isinstance(net, KeypointNet)
        self.net = copy.deepcopy(net).cpu().eval().requires_grad_(True)
        self.net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.graph = tp.DependencyGraph().build_dependency(self.net, example_inputs=torch.zeros(1, 3, *input_hw))
        self.names = {module: name for name, module in self.net.named_modules()}
        kept = [layer for output in self.net.last_layers for layer in output.modules()]
        self.by_name: dict[str, tp.Group] = {
            self.names[group[0].dep.target.module]: group
            for group in self.graph.get_all_groups(ignored_layers=kept, root_module_types=LED_BY)}

    def groups(self) -> dict[str, ChannelGroup]:
        return {name: ChannelGroup(self._layers(group), len(group[0].idxs)) for name, group in self.by_name.items()}

    def narrow(self, scores: Scores, widths: Widths) -> nn.Module:
        """The copy itself, in which the channels with the lowest scores have left until the widths are reached."""
        for name, width in widths.items():
            first = self.by_name[name][0]
            leaving = scores[name].argsort(stable=True)[:len(first.idxs) - width].tolist()
            if leaving:
                self.graph.get_pruning_group(first.dep.target.module, first.dep.handler, leaving).prune()
        return self.net

    def _layers(self, group: tp.Group) -> tuple[str, ...]:
        found = [self.names[dep.target.module] for dep, _ in group
                 if isinstance(dep.target.module, LED_BY) and self.graph.is_out_channel_pruning_fn(dep.handler)]
        return tuple(dict.fromkeys(found))


def narrowed(net: nn.Module, input_hw: tuple[int, int], scores: Scores, widths: Widths) -> nn.Module:
    """A copy of ``net`` in evaluation mode, with that many channels in the groups named."""
    return Dependencies(net, input_hw).narrow(scores, widths)


def rounded(keep: float, channels: int, multiple: int) -> int:
    """The width next to ``keep`` of those that may be: all channels, and multiples that ``LARGEST_SHARE`` leaves."""
    allowed: list[int] = [width for width in (*range(multiple, channels, multiple), channels)
                          if width >= (1 - LARGEST_SHARE) * channels]
    return min(allowed, key=lambda width: abs(width - keep))


def widths_at(scores: Scores, share: float, multiple: int) -> dict[str, int]:
    """Widths where that share of all channels is below the bar: groups of little worth lose more than others."""
    everyone = torch.cat(list(scores.values())).sort().values
    bar = everyone[min(int(share * len(everyone)), len(everyone) - 1)]
    return {name: rounded(int((worth >= bar).sum()), len(worth), multiple) for name, worth in scores.items()}
