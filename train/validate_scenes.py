"""A quick look at accuracy on whole images during training, for the curves. The verdict belongs to the eval stage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from edgekp.contract import SceneContract
from edgekp.preprocess import frame_xywh, read_image
from edgekp.sample import Float, Prediction, Scene
from edgekp.similarity import oks
from train.world import World

BATCH = 8
SCENES = 200  # enough for a curve
FOUND = 0.5  # the OKS from which on a prediction is a person's


@dataclass(frozen=True)
class Match:
    """What a network says of one scene, beside the labels.

    Attributes:
        similarity: of each labelled person, the OKS of their prediction; 0 where there is none.
        claims: (score, similarity) of each prediction, 0 where it is nobody's. Those on people without labels are
            left out.
    """

    similarity: list[float]
    claims: list[tuple[float, float]]


@torch.no_grad()
def validate_scenes(net: nn.Module, scenes: tuple[Scene, ...], contract: SceneContract, device: torch.device,
                    world: World) -> dict[str, float]:
    """AP and recall at an OKS of 0.5, and the mean OKS of all labelled people, over up to 200 scenes.

    Every process of ``world`` measures its share, and all of them learn the result.
    """
    net.eval()
    rows = world.share(list(scenes[:SCENES]))
    mine = [match(scene, people, contract) for start in range(0, len(rows), BATCH)
            for scene, people in zip(rows[start:start + BATCH],
                                     _predicted(net, rows[start:start + BATCH], contract, device), strict=True)]
    everyones = world.gather(mine)
    similarity = np.array([value for one in everyones for value in one.similarity])
    claims = sorted((claim for one in everyones for claim in one.claims), reverse=True)
    hits = np.array([similarity >= FOUND for _, similarity in claims], dtype=np.float64)
    precision = hits.cumsum() / np.arange(1, len(hits) + 1)
    return {"ap@0.5": float((precision * hits).sum() / len(similarity)),
            "recall@0.5": float((similarity >= FOUND).mean()), "oks": float(similarity.mean())}


def match(scene: Scene, predictions: list[Prediction], contract: SceneContract) -> Match:
    """Each prediction, the best first, takes the person that is most like it and that no other has taken."""
    true_xy = np.stack([person.keypoints_xy for person in scene.people])
    labelled = np.stack([person.labelled for person in scene.people])
    area_px2 = np.array([person.area_px2 for person in scene.people])
    similarity, claims = np.zeros(len(scene.people)), []
    taken = np.zeros(len(scene.people), np.bool_)
    for prediction in sorted(predictions, key=lambda one: -one.score):
        likeness = oks(prediction.keypoints_xy, true_xy, labelled, area_px2, contract.skeleton.sigma_array)
        likeness[taken] = 0.0
        best = int(likeness.argmax())
        if likeness[best] >= FOUND:
            taken[best], similarity[best] = True, likeness[best]
        elif _lies_on_others(prediction, scene):
            continue
        else:
            similarity[best] = max(similarity[best], likeness[best])
        claims.append((prediction.score, float(likeness[best])))
    return Match(similarity.tolist(), claims)


def _lies_on_others(prediction: Prediction, scene: Scene) -> bool:
    """Whether the middle of a prediction is where people are whom nobody labelled, or may be."""
    boxes = np.concatenate([scene.others_xywh, scene.crowds_xywh])
    offset = prediction.keypoints_xy.mean(0) - boxes[:, :2]
    return not scene.complete or bool(((offset >= 0) & (offset <= boxes[:, 2:])).all(-1).any())


def _predicted(net: nn.Module, scenes: list[Scene], contract: SceneContract,
               device: torch.device) -> list[list[Prediction]]:
    images = [read_image(scene.image.path) for scene in scenes]
    inputs, affines = zip(*(contract.prepare(image, frame_xywh(image)) for image in images), strict=True)
    said = net(torch.from_numpy(np.stack(inputs)).to(device))
    outputs: dict[str, Float] = {name: value.float().cpu().numpy()
                                 for name, value in zip(contract.outputs, said, strict=True)}
    return contract.interpret(outputs, np.stack(affines))
