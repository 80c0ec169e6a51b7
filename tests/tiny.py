"""Tiny data sets, recipes and networks for the tests of the stages: a network of 10,000 parameters, 64 x 64 pixels."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from edgekp.coco import read_coco
from edgekp.contract import Contract
from edgekp.preprocess import InputSpec
from edgekp.recipe import CodecChoice, Data, LabelSet, Model, Recipe
from edgekp.recipe_augment import Augment
from edgekp.recipe_steps import Step
from edgekp.recipe_train import Train
from edgekp.sample import Float, ImageFile, Instance
from edgekp.skeletons import COCO17
from train.models import ModelSpec, build, spec_of

IMAGE_HW = (72, 80)
STILL = Augment(flip_p=0.0, scale=(1.0, 1.0), rotate_deg=0.0, shift=0.0, color=0.0, blur_p=0.0, gray_p=0.0,
                cutout_p=0.0)
HRNET = Model("hrnet_lite", options={"width": 8, "branches": 2, "blocks": 1, "modules": 1})
FACENET = Model("mobilefacenet")
TRAIN = Train(epochs=3, batch=8, lr=3e-3, warmup_steps=2, precision="fp32", workers=0)


def recipe(input_hw: tuple[int, int] = (64, 64), model: Model = HRNET, codec: str = "heatmap",
           steps: Sequence[Step] = (), **train: Any) -> Recipe:
    """A recipe over ``write_coco``'s files train.json and val.json."""
    data = Data("coco17", (LabelSet("train.json"),), (LabelSet("val.json"),))
    return Recipe("tiny", data, InputSpec(input_hw), CodecChoice(codec), model, replace(TRAIN, **train),
                  optimize=tuple(steps))


def network(of: Recipe) -> tuple[nn.Module, ModelSpec, Contract]:
    """A network in evaluation mode with lively batch-norm statistics and outputs, its specification and contract."""
    spec = spec_of(of)
    net = build(spec)
    enliven(net)
    return net.eval(), spec, of.contract()


@torch.no_grad()
def enliven(net: nn.Module) -> None:
    """Random batch-norm statistics and weights and a loud last layer: an untrained network hides mistakes in both."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
            module.weight.uniform_(0.6, 1.4)
            module.bias.normal_(0, 0.2)
    for layer in net.get_submodule("head.output").modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.normal_(0, 0.3)
            if layer.bias is not None:
                layer.bias.normal_(0, 0.1)


def write_coco(folder: Path, name: str, count: int, per_image: int = 8, seed: int = 0) -> Path:
    """COCO-17 people who are dots of 17 colours on noise, ``per_image`` of them in front of each background."""
    rng = np.random.default_rng([seed, count])
    height, width = IMAGE_HW
    images, annotations = [], []
    for number in range(count):
        image_id = number // per_image + 1
        if number % per_image == 0:
            picture = rng.integers(60, 120, (*IMAGE_HW, 3), dtype=np.uint8)
            images.append({"id": image_id, "file_name": f"{name}-{image_id}.png", "width": width, "height": height})
        keypoints_xy = rng.uniform((14, 12), (width - 14, height - 12), (len(COCO17), 2))
        for index, xy in enumerate(keypoints_xy.round().astype(int).tolist()):
            cv2.circle(picture, xy, 2, (15 * index, 255 - 15 * index, 40 * (index % 7)), -1)
        triplets = np.column_stack([keypoints_xy, rng.integers(1, 3, len(COCO17))])
        annotations.append({"id": number + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0,
                            "keypoints": triplets.ravel().tolist(), "bbox": [8, 6, 64, 60], "area": 1000.0 + number})
        cv2.imwrite(str(folder / images[-1]["file_name"]), picture)
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoints)}
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return path


def write_sets(folder: Path, train: int = 16, val: int = 8) -> Path:
    """train.json and val.json with their pictures."""
    folder.mkdir(exist_ok=True)
    write_coco(folder, "train", train)
    write_coco(folder, "val", val, seed=1)
    return folder


def instances(folder: Path, count: int) -> tuple[Instance, ...]:
    """``write_coco``, read back."""
    return read_coco(write_coco(folder, "set", count), COCO17).instances


def instance(folder: Path, picture: Float, keypoints_xy: Float, bbox_xywh: Sequence[float], visibility: int = 2,
             name: str = "picture") -> Instance:
    """One instance on a picture of its own."""
    path = folder / f"{name}.png"
    cv2.imwrite(str(path), picture)
    file = ImageFile(1, str(path), picture.shape[1], picture.shape[0])
    return Instance(1, file, np.asarray(keypoints_xy, np.float64), np.full(len(keypoints_xy), visibility),
                    np.asarray(bbox_xywh, np.float64), 1000.0)


def toml(steps: str = "", **train: Any) -> str:
    """The recipe of ``recipe()`` as a file's text; ``steps`` is appended."""
    settings = {"epochs": 2, "batch": 8, "lr": 3e-3, "warmup_steps": 2, "precision": "fp32", "workers": 0} | train
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())
    return f"""
[data]
skeleton = "coco17"
[[data.train]]
labels = "train.json"
[[data.val]]
labels = "val.json"
[input]
input_hw = [64, 64]
[codec]
name = "heatmap"
[model]
backbone = "hrnet_lite"
options = {{ width = 8, branches = 2, blocks = 1, modules = 1 }}
[train]
{lines}
{steps}
"""


def nth_call(function: Callable[..., Any], n: int, error: type[BaseException]) -> Callable[..., Any]:
    """``function``, but its n-th call raises once it has done its work."""
    calls = 0

    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        result = function(*arguments, **keywords)
        if calls == n:
            raise error
        return result
    return wrapped
