"""Quantized and float checkpoints and their exports, made once a session."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from deploy.export.checkpoint_to_artifact import export_checkpoint
from deploy.export.target import target_named
from edgekp.recipe_steps import Quantize
from optimize.calibration_set import calibration_inputs
from optimize.ptq import quantize_network
from tests import tiny
from train.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

POSE = tiny.recipe(model=tiny.Model("hrnet_lite", options={"width": 16, "branches": 3, "blocks": 1, "modules": 1}))
FACE = tiny.recipe((32, 32), tiny.FACENET, "regression")
PRELU = tiny.recipe((32, 32), tiny.Model("mobilefacenet", options={"activation": "prelu"}), "regression")
RECIPES = {"hrnet": POSE, "mobilefacenet": FACE, "prelu": PRELU}
TARGETS = {"int8": "jetson", "uint8": "cpu"}
OPSET = 17
CALIBRATED_ON = 16  # images: a step of a recipe wants more, but what a file says of its grid does not depend on them

MakeCheckpoint = Callable[[str, bool], Checkpoint]
MakeExport = Callable[[str, str], Path]


@pytest.fixture(scope="session")
def checkpoint_of(tmp_path_factory: pytest.TempPathFactory) -> MakeCheckpoint:
    """The checkpoint of one of ``RECIPES``, float or, with ``integer``, on the int8 grid."""
    folder = tmp_path_factory.mktemp("checkpoints")

    @cache
    def make(name: str, integer: bool) -> Checkpoint:
        path = folder / f"{name}-{integer}"
        path.mkdir()
        if integer:
            parent = make(name, False)
            inputs = calibration_inputs(tiny.instances(folder, CALIBRATED_ON), parent.contract)
            found = quantize_network(parent, Quantize("quantize"), inputs)
            save_checkpoint(path, found.net, found.spec, parent.contract)
        else:
            torch.manual_seed(0)
            net, spec, contract = tiny.network(RECIPES[name])
            save_checkpoint(path, net, spec, contract)
        return load_checkpoint(path)
    return make


@pytest.fixture(scope="session")
def export_of(tmp_path_factory: pytest.TempPathFactory, checkpoint_of: MakeCheckpoint) -> MakeExport:
    """Artifact folder of a checkpoint; the spelling is ``float``, ``int8`` or ``uint8``. Not to be changed."""
    folder = tmp_path_factory.mktemp("exports")

    @cache
    def make(name: str, spelling: str) -> Path:
        path = folder / f"{name}-{spelling}"
        target = target_named(TARGETS.get(spelling, "cpu"))
        export_checkpoint(checkpoint_of(name, spelling != "float"), path, target, OPSET)
        return path
    return make
