"""The claims, in the words of the sources' gist, and what answers each: comparisons or costs."""

from __future__ import annotations

from dataclasses import dataclass

GUIDE, OPENPOSE, SIX_TWO, FACES, HRNET, OURS = (
    "guide to heatmap keypoint detection", "from COCO to OpenPose ground truth", "pose estimation module for the edge",
    "body pose and face landmarks with PyTorch", "HRNet's data path step by step", "this project")


@dataclass(frozen=True)
class Claim:
    """What a source says.

    Attributes:
        hardware: what it takes to answer where this machine cannot.
    """

    source: str
    text: str
    hardware: str = ""


CLAIMS = {
    "C1": Claim(GUIDE, "Heatmaps localise better than direct regression."),
    "C2": Claim(GUIDE, "A small sigma suits precise labels, a large one fuzzy labels."),
    "C3": Claim(GUIDE, "Quadratic refinement beats the argmax."),
    "C4": Claim(GUIDE, "Attention (SE, CBAM) helps."),
    "C5": Claim(GUIDE, "Mixed precision speeds training."),
    "C6": Claim(OPENPOSE, "Data preparation costs 30 % of the debugging."),
    "C7": Claim(SIX_TWO, "Offset regression gives sub-pixel accuracy."),
    "C8": Claim(SIX_TWO, "An FPN helps small people."),
    "C9": Claim(FACES, "MobileFaceNet has 0.8 M parameters and runs at 30 frames per second on a phone.",
                hardware="a phone"),
    "C10": Claim(FACES, "TensorRT takes 5 ms a picture on a Jetson.", hardware="a Jetson"),
    "C11": Claim(FACES, "Pose and face learnt together are 2.3 % better than alone."),
    "C12": Claim(FACES, "25 frames per second with 4 people on a desktop.", hardware="a desktop with an NVIDIA GPU"),
    "C13": Claim(FACES, "An FPN gives 17 % more AP on small people."),
    "C14": Claim(FACES, "Mixed precision saves 30 % of the memory.", hardware="an NVIDIA GPU"),
    "C15": Claim(FACES, "Without the 20 % of channels with the smallest L1 norm a network is 1.8 x faster."),
    "C16": Claim(FACES, "Wing loss beats L2 on face keypoints."),
    "C17": Claim(FACES, "Over 100,000 frames per second with dedicated hardware.", hardware="dedicated hardware"),
    "C18": Claim(HRNET, "A single-pixel target does not train, a Gaussian does."),
    "C19": Claim(HRNET, "HalfBody helps occluded people."),
    "EMA": Claim(OURS, "Averaged weights are better than those of the last step."),
    "DARK": Claim(OURS, "DARK localises better than quadratic refinement."),
}
