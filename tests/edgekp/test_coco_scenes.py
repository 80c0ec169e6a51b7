"""Whole images of a COCO file: every labelled person is on the image, and so are the boxes of the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekp.coco import read_coco
from edgekp.coco_scenes import read_scenes
from edgekp.errors import DataError
from edgekp.skeletons import COCO17
from tests import tiny_scenes
from tests.tiny_scenes import unlabelled


def test_people_are_gathered_by_image_and_images_without_any_are_left_out(tmp_path: Path) -> None:
    found = tiny_scenes.scenes(tmp_path, [2, 0, 1], others=[unlabelled(50, 2, (1, 2, 3, 4))])
    assert [(scene.image.id, len(scene.people)) for scene in found] == [(1, 2), (3, 1)]
    assert all(person.image == scene.image for scene in found for person in scene.people)


def test_crowds_and_unlabelled_people_are_told_apart(tmp_path: Path) -> None:
    others = [unlabelled(50, 1, (1, 2, 3, 4)), unlabelled(51, 1, (5, 6, 7, 8), crowd=True),
              unlabelled(52, 2, (9, 9, 9, 9))]
    first, second = tiny_scenes.scenes(tmp_path, [1, 1], others=others)
    np.testing.assert_array_equal(first.others_xywh, [[1, 2, 3, 4]])
    np.testing.assert_array_equal(first.crowds_xywh, [[5, 6, 7, 8]])
    np.testing.assert_array_equal(second.others_xywh, [[9, 9, 9, 9]])
    assert second.crowds_xywh.shape == (0, 4)


def test_an_image_may_say_that_not_everybody_is_annotated(tmp_path: Path) -> None:
    path = tiny_scenes.write_scenes(tmp_path, "set", [1, 1, 1])
    document = json.loads(path.read_text())
    document["images"][0]["complete_person_annotation"] = False
    document["images"][1]["complete_person_annotation"] = True
    path.write_text(json.dumps(document))
    assert [scene.complete for scene in read_scenes(read_coco(path, COCO17))] == [False, True, True]


@pytest.mark.parametrize("bbox", [None, [1, 2, 3], "box", [1, 2, float("inf"), 4], [[1], 2, 3, 4],
                                  [10**400, 2, 3, 4]])
def test_somebody_without_keypoints_and_without_a_box_is_refused(tmp_path: Path, bbox: Any) -> None:
    other = {**unlabelled(50, 1, (1, 2, 3, 4)), "bbox": bbox}
    with pytest.raises(DataError, match=r"set\.json: annotation 50: bbox .* expected \[x, y, width, height\]"):
        tiny_scenes.scenes(tmp_path, [1], others=[other])


@pytest.mark.parametrize("image_id", [None, 99, "a.png", 1.5, True, [1], {"id": 1}])
def test_somebody_without_keypoints_on_no_listed_image_is_refused(tmp_path: Path, image_id: Any) -> None:
    other = {**unlabelled(50, 1, (1, 2, 3, 4)), "image_id": image_id}
    with pytest.raises(DataError, match=r"set\.json: annotation 50: image_id .* names no image that is listed"):
        tiny_scenes.scenes(tmp_path, [1], others=[other])
