"""Beside any head: is a keypoint seen, or only known to be there? One logit for each, from the pooled feature."""

from __future__ import annotations

from torch import Tensor, nn

from train.models.heads import halvings, quiet


class VisibilityBranch(nn.Module):
    """Feature maps to the logits (N, K) that a labelled keypoint is visible (v = 2) rather than hidden (v = 1).

    From the coarsest map, brought to stride 16 and averaged over its cells.
    """

    def __init__(self, widths: tuple[int, ...], strides: tuple[int, ...], keypoints: int) -> None:
        super().__init__()
        self.reduce, width, _ = halvings(widths[-1], strides[-1])
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.output = quiet(nn.Conv2d(width, keypoints, 1))

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        logits: Tensor = self.output(self.pool(self.reduce(features[-1]))).float()
        return logits.flatten(1)
