"""A checkpoint, its data and the context of a step, made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edgekp.sample import Instance
from optimize.step import Context
from tests import tiny
from train.dataset import Pool
from train.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> tuple[Instance, ...]:
    return tiny.instances(tmp_path_factory.mktemp("people"), 160)


@pytest.fixture
def parent(tmp_path: Path) -> Callable[[tiny.Recipe], Checkpoint]:
    """Writes a checkpoint of the recipe's network, not trained, and loads it."""
    def make(recipe: tiny.Recipe) -> Checkpoint:
        net, spec, contract = tiny.network(recipe)
        folder = tmp_path / "parent"
        folder.mkdir(exist_ok=True)
        save_checkpoint(folder, net, spec, contract)
        return load_checkpoint(folder)
    return make


@pytest.fixture
def context(people: tuple[Instance, ...], tmp_path: Path) -> Callable[..., Context]:
    """The context of a step: 16 instances to train on unless more are asked for, the parent as baseline."""
    def make(recipe: tiny.Recipe, count: int = 16, **changes: Any) -> Context:
        return Context(recipe, [Pool(people[:count])], [], changes.get("baseline", tmp_path / "parent"),
                       torch.device("cpu"))
    return make
