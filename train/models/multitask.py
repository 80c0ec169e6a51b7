"""One network for several tasks: what they share exists once, and sees the inputs of all of them in one batch.

That batch is why batch norm is right: the statistics it trains with are those of the mixture, as are the running ones
that it is evaluated with. Batches that pass one after the other would train with their own ones, and be evaluated with
a mean over the tasks, which fits none of them (Chang et al., "Domain-Specific Batch Normalization", CVPR 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from train.models import KeypointNet, ModelSpec, build
from train.models.parts import Head
from train.models.visibility import VisibilityBranch


class MultiTaskNet(nn.Module):
    """The backbone and the neck of the first network, and the ends of all; without spatial transformers.

    Given the inputs of each task, (N, 3, h, w) of one size and each task with its own N, it says one tuple of outputs
    for each, as that task's network would.
    """

    def __init__(self, nets: Sequence[KeypointNet]) -> None:
        super().__init__()
        self.backbone, self.neck = nets[0].backbone, nets[0].neck
        self.ends = nn.ModuleList(End(net.head, net.visibility) for net in nets)

    def forward(self, *images: Tensor) -> tuple[tuple[Tensor, ...], ...]:
        features = self.backbone(torch.cat(images))
        if self.neck is not None:
            features = self.neck(features)
        of_each = zip(*(feature.split([len(image) for image in images]) for feature in features), strict=True)
        return tuple(end(own) for end, own in zip(self.ends, of_each, strict=True))

    def alone(self) -> list[KeypointNet]:
        """The network of each task, in the mode of this one; the tensors are shared with it."""
        return [KeypointNet(self.backbone, self.neck, end.head, visibility=end.visibility).train(self.training)
                for end in cast(Sequence[End], self.ends)]


class End(nn.Module):
    """What belongs to one task: a head, and perhaps a branch for visibility beside it."""

    def __init__(self, head: Head, visibility: VisibilityBranch | None) -> None:
        super().__init__()
        self.head: Head = head
        self.visibility = visibility

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = self.head(features)
        return outputs if self.visibility is None else (*outputs, self.visibility(features))


def build_together(specs: Sequence[ModelSpec]) -> MultiTaskNet:
    """A network with fresh weights for tasks whose specifications differ in their ends alone."""
    nets = []
    for spec in specs:
        net = build(spec)
        assert isinstance(net, KeypointNet)
        nets.append(net)
    return MultiTaskNet(nets)
