"""The drawn data: reproducible, countable, readable, and truthful about what hides what."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from edgekp.coco import Labels, read_coco
from edgekp.preprocess import read_image
from edgekp.recipe import Drawn
from edgekp.sample import Float, Int
from edgekp.skeletons import COCO17, IBUG68, Skeleton
from train.drawn import faces, people, write_dataset
from train.drawn.canvas import Canvas, blob, box, ellipse, limb, plain
from train.drawn.face_shape import draw_face
from train.drawn.figure import PARTS, Part
from train.drawn.pose import draw_body
from train.drawn.scene import THING, Drawing

TRAIN, VAL = 41, 7  # neither is a sum that full pictures are bound to reach
SKELETONS = {"people": COCO17, "faces": IBUG68}
LEFT_SHOULDER, RIGHT_SHOULDER, NOSE = 5, 6, 0


@pytest.fixture(scope="module", params=["people", "faces"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Skeleton]:
    folder = tmp_path_factory.mktemp(request.param)
    write_dataset(folder, Drawn(request.param, TRAIN, VAL, seed=3))
    return folder, SKELETONS[request.param]


@pytest.fixture(scope="module")
def crowds() -> list[Drawing]:
    return [people.draw_people(np.random.default_rng([11, i]), 1 + i % 4) for i in range(24)]


def _labels(written: tuple[Path, Skeleton], split: str) -> Labels:
    folder, skeleton = written
    return read_coco(folder / f"{split}.json", skeleton)


def _digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("subject", ["people", "faces"])
def test_a_seed_gives_the_same_bytes_and_another_seed_gives_others(subject: str, tmp_path: Path) -> None:
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        write_dataset(tmp_path / name, Drawn(subject, 4, 2, seed))  # type: ignore[arg-type]
    assert _digests(tmp_path / "first") == _digests(tmp_path / "again")
    first, other = _digests(tmp_path / "first"), _digests(tmp_path / "other")
    assert not set(first.values()) & set(other.values())


def test_a_picture_does_not_depend_on_how_many_are_drawn(tmp_path: Path) -> None:
    write_dataset(tmp_path / "few", Drawn("people", 5, 1))
    write_dataset(tmp_path / "more", Drawn("people", 9, 1))
    few = [path for path in sorted(_digests(tmp_path / "few")) if path.startswith("images/train")]
    whole = few[:-1]  # the last one may have been cut short
    assert whole
    assert all(_digests(tmp_path / "few")[path] == _digests(tmp_path / "more")[path] for path in whole)


def test_splits_share_no_picture(written: tuple[Path, Skeleton]) -> None:
    pictures = [digest for name, digest in _digests(written[0]).items() if name.endswith(".jpg")]
    assert len(set(pictures)) == len(pictures)


@pytest.mark.parametrize(("split", "wanted"), [("train", TRAIN), ("val", VAL)])
def test_exactly_the_wanted_instances_are_readable(written: tuple[Path, Skeleton], split: str, wanted: int) -> None:
    labels = _labels(written, split)
    assert (len(labels.instances), labels.skipped) == (wanted, 0)
    assert [instance.id for instance in labels.instances] == list(range(1, wanted + 1))


def test_every_picture_decodes_to_the_size_stated(written: tuple[Path, Skeleton]) -> None:
    for file in _labels(written, "train").images:
        assert read_image(file.path).shape == (file.height, file.width, 3)


def test_labelled_keypoints_lie_inside_the_picture_and_the_others_at_zero(written: tuple[Path, Skeleton]) -> None:
    for instance in _labels(written, "train").instances:
        size = np.array([instance.image.width, instance.image.height])
        labelled_xy = instance.keypoints_xy[instance.labelled]
        assert (labelled_xy >= -0.5).all()
        assert (labelled_xy <= size - 0.5).all()
        assert not instance.keypoints_xy[~instance.labelled].any()


def test_a_visible_keypoint_shows_its_own_part_of_its_own_person(crowds: list[Drawing]) -> None:
    seen = 0
    for drawing in crowds:
        for number, subject in enumerate(drawing.subjects):
            for k in np.flatnonzero(subject.visibility == 2):
                part = _owner_at(drawing.owner, subject.keypoints_xy[k]) - 1 - number * PARTS
                assert part in people.SHOWN_BY[k] or (k in people.ON_TRUNK and part == Part.TRUNK)
                seen += 1
    assert seen > 300


def test_a_keypoint_under_a_stranger_is_labelled_hidden(crowds: list[Drawing]) -> None:
    covered = [subject.visibility[k] for drawing in crowds for number, subject in enumerate(drawing.subjects)
               for k in np.flatnonzero(subject.visibility > 0)
               if (_owner_at(drawing.owner, subject.keypoints_xy[k]) - 1) // PARTS != number]
    assert len(covered) > 10
    assert set(covered) == {1}


def test_a_face_behind_an_object_is_hidden_and_a_bare_one_is_visible() -> None:
    portrait = faces._place(np.random.default_rng(4), 0, 220, 220)
    canvas = Canvas(np.zeros((220, 220, 3)), np.array([0.0, 0.0, 1.0]))
    faces._skin(canvas, portrait)
    bare = faces._label(canvas.owner, portrait).visibility
    np.testing.assert_array_equal(bare, np.where(portrait.face.turned_away, 1, 2))
    canvas.paint(blob(box(-5, -5, 300, 300)), plain(np.full(3, 90.0)), THING)
    assert set(faces._label(canvas.owner, portrait).visibility) == {1}


def test_box_and_area_of_a_person_are_those_of_the_pixels(crowds: list[Drawing]) -> None:
    for drawing in crowds:
        for number, subject in enumerate(drawing.subjects):
            rows, columns = np.nonzero((drawing.owner.astype(int) - 1) // PARTS == number)
            inclusive = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            np.testing.assert_array_equal(subject.bbox_xywh, inclusive)
            assert subject.area_px2 == len(rows)


def test_the_left_shoulder_is_on_the_right_of_the_picture_only_for_those_who_face_it() -> None:
    bodies = [draw_body(np.random.default_rng([5, i])) for i in range(300)]
    toward = np.array([body.trunk_axes[2, 2] for body in bodies])
    width = np.array([(body.keypoints[LEFT_SHOULDER] - body.keypoints[RIGHT_SHOULDER])[0] for body in bodies])
    upright = np.array([body.trunk_axes[1, 1] > 0.8 for body in bodies])
    assert (width[upright & (toward > 0.5)] > 0).all()
    assert (width[upright & (toward < -0.5)] < 0).all()
    assert min((toward > 0.5).sum(), 3 * (toward < -0.5).sum()) > 60  # both kinds are common


def test_who_turns_the_back_has_no_labelled_nose(crowds: list[Drawing]) -> None:
    noses = [subject.visibility[NOSE] for drawing in crowds for subject in drawing.subjects]
    assert 0.05 < np.mean(np.array(noses) == 0) < 0.5


def test_medium_and_large_people_both_occur(crowds: list[Drawing]) -> None:
    area_px2 = np.array([subject.area_px2 for drawing in crowds for subject in drawing.subjects])
    assert ((area_px2 > 32**2) & (area_px2 < 96**2)).sum() > 20  # COCO's limits
    assert (area_px2 >= 96**2).sum() >= 2


def test_faces_look_the_way_their_points_say() -> None:
    """The right eye stands left of the left one, brows over eyes over mouth, in the head's own axes."""
    for i in range(100):
        face = draw_face(np.random.default_rng([6, i]))
        x, y, _ = (face.keypoints @ face.axes).T
        assert x[36] < x[39] < x[42] < x[45]
        assert x[0] < x[48] < x[54] < x[16]
        assert y[8] < y[57] < y[51] < y[33] < y[36:48].min() < y[17:27].min()


def test_a_shape_is_drawn_where_it_is_said_to_be() -> None:
    center = np.array([20.3, 14.7])
    for shape in (blob(ellipse(center, (6.0, 9.0))), limb(center - (7, 2), center + (7, 2), 4.0, 4.0)):
        canvas = Canvas(np.zeros((32, 44, 3)), np.array([0.0, 0.0, 1.0]), ambient=1.25)  # ambient alone: no lamp
        canvas.paint(shape, plain(np.full(3, 100.0)), 1)
        np.testing.assert_allclose(_centroid(canvas.pixels[..., 0]), center, atol=0.1)
        np.testing.assert_allclose(_centroid(canvas.owner.astype(float)), center, atol=0.5)


def _owner_at(owner: Int, xy: Float) -> int:
    column, row = np.rint(xy).astype(int)
    return int(owner[row, column])


def _centroid(weight: Float) -> Float:
    row, column = np.indices(weight.shape)
    return np.asarray(np.array([(column * weight).sum(), (row * weight).sum()]) / weight.sum())
