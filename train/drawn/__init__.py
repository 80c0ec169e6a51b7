"""The embedded data: a seeded generator that draws people and faces and labels them as COCO keypoints."""

from train.drawn.dataset import write_dataset

__all__ = ["write_dataset"]
