"""The quick metrics of whole scenes: who is found, who is not, and who was never there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekp.sample import Float, Prediction, Scene
from tests import tiny_scenes
from tests.tiny_scenes import unlabelled
from train.validate_scenes import match

CONTRACT = tiny_scenes.contract()


def said(xy: Float, score: float = 0.9) -> Prediction:
    return Prediction(xy, np.full(17, score))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return tiny_scenes.scenes(tmp_path, [2], others=[unlabelled(9, 1, (0, 0, 30, 120))])[0]


def test_everybody_is_found_where_the_labels_are_repeated(scene: Scene) -> None:
    found = match(scene, [said(person.keypoints_xy) for person in scene.people], CONTRACT)
    assert found.similarity == [1.0, 1.0]
    assert [similarity for _, similarity in found.claims] == [1.0, 1.0]


def test_a_person_is_found_once_and_a_copy_is_false(scene: Scene) -> None:
    person = scene.people[0].keypoints_xy
    found = match(scene, [said(person, 0.5), said(person + 1, 0.9)], CONTRACT)
    assert found.similarity[1] < 1e-6
    (first, second) = found.claims
    assert (first[0], second[0]) == pytest.approx((0.9, 0.5))  # the surer one takes the person
    assert first[1] > 0.5
    assert second[1] < 0.5


def test_what_lies_on_somebody_unlabelled_is_not_false(scene: Scene) -> None:
    middle = np.tile([15.0, 60.0], (17, 1))
    assert match(scene, [said(middle)], CONTRACT).claims == []
    assert len(match(scene, [said(middle + [130, 0])], CONTRACT).claims) == 1
    assert match(replace(scene, complete=False), [said(middle + [130, 0])], CONTRACT).claims == []
