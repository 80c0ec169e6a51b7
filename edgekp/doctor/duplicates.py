"""What is there twice: pictures, byte for byte or to the eye, in one set or in two, and instances of one picture."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from edgekp.coco import AREA_OF_BOX
from edgekp.doctor.dataset import DataSet, first_rows
from edgekp.doctor.finding import Example, Fault, Finding, Shot, at_annotations, found
from edgekp.doctor.near_pictures import Looks, first_alike
from edgekp.sample import Bool, Float, Int
from edgekp.similarity import oks

SAME_INSTANCE = 0.9  # OKS: two people who label one person differ more
FEWEST_SHARED = 3  # keypoints that both annotations label
NEIGHBOURS = 200  # annotations of one image that one is compared with

SAME_PICTURE = Fault(
    "image-duplicate", "warning", "a picture is in the set twice, byte for byte",
    why="it counts twice, and where only one of the two has a person's label, the other teaches that nobody is there",
    mend="move the annotations to one of the two entries and drop the other")
NEAR_PICTURE = Fault(
    "image-near-duplicate", "note", "a picture looks like another one of its set",
    why="frames of one video count as if they were independent: error bars come out too small",
    mend="keep such pictures on one side of every split; a few frames a scene are enough")
SHARED_PICTURE = Fault(
    "image-in-two-sets", "error", "a picture is in two sets, byte for byte",
    why="a model is measured on what it has learnt by heart, and every accuracy is too good",
    mend="drop it from one of the sets, best from the training set")
NEAR_SHARED = Fault(
    "image-near-duplicate-across-sets", "warning", "a picture looks like one of another set",
    why="neighbouring frames or scaled copies in training and validation make every accuracy too good",
    mend="look at both (--html) and put all pictures of a scene on one side")
REPEATED = Fault(
    "annotation-duplicate", "warning", "an annotation is there twice",
    why="one detection can match only one of the two: recall cannot reach 1",
    mend="--fix drops the second", fixable=True)
SAME_PERSON = Fault(
    "instance-duplicate", "warning", "two annotations of a picture have nearly the same keypoints",
    why="one detection can match only one of the two: recall cannot reach 1",
    mend="look at them: keep the better one, or give the other its own person's keypoints")


def check_duplicates(data: DataSet) -> Iterator[Finding]:
    """Within one set."""
    rows = np.arange(len(data.images))
    first = first_rows([picture.sha256 or name or ("nameless", row) for row, (picture, name)
                        in enumerate(zip(data.picture_rows, data.file_names, strict=True))])
    yield from _pictures(SAME_PICTURE, data, rows[first < rows], data, first[first < rows], "the same as")
    looks = Looks.of(data.picture_rows, first == rows)
    yield from _alike(NEAR_PICTURE, data, looks, data, looks, np.arange(len(looks.rows)))
    yield from _instances(data)


def check_pictures_between(sets: Sequence[DataSet]) -> Iterator[Finding]:
    """Between each two sets; the later one's pictures are counted."""
    for earlier, later in combinations(sets, 2):
        known = {picture.sha256: row for row, picture in enumerate(earlier.picture_rows) if picture.sha256}
        shared = np.array([known.get(picture.sha256, -1) for picture in later.picture_rows], dtype=np.int64)
        yield from _pictures(SHARED_PICTURE, later, np.flatnonzero(shared >= 0), earlier, shared[shared >= 0],
                             "the same as")
        theirs = Looks.of(earlier.picture_rows, np.ones(len(earlier.images), dtype=bool))
        mine = Looks.of(later.picture_rows, shared < 0)
        yield from _alike(NEAR_SHARED, later, mine, earlier, theirs, np.full(len(mine.rows), len(theirs.rows)))


def _alike(fault: Fault, data: DataSet, looks: Looks, other: DataSet, others: Looks, before: Int) -> Iterator[Finding]:
    """A finding of pictures with one of the ``others`` before ``before`` that looks like them."""
    partner = first_alike(looks, others, before)
    met = partner >= 0
    yield from _pictures(fault, data, looks.rows[met], other, others.rows[partner[met]], "looks like")


def _pictures(fault: Fault, data: DataSet, rows: Int, other: DataSet, partners: Int,
              relation: str) -> Iterator[Finding]:
    """A finding of pictures that go together, each drawn beside the other."""
    yield from found(fault, [Example(data.name_image(int(row)), f"{relation} {other.name_image(int(partner))}",
                                     (Shot(data, int(row)), Shot(other, int(partner))))
                             for row, partner in zip(rows, partners, strict=True)])


def is_repeated(data: DataSet) -> Bool:
    """(N,) True where an earlier annotation says the same in everything but its id."""
    said = [json.dumps({name: value for name, value in entry.items() if name != "id"}, sort_keys=True)
            for entry in data.annotations]
    return first_rows(said) < np.arange(len(said))


def _instances(data: DataSet) -> Iterator[Finding]:
    again = is_repeated(data)
    yield from at_annotations(REPEATED, data, again, lambda row: "all but the id is that of an earlier annotation")
    twins = {later: (earlier, similarity) for earlier, later, similarity in _twins(data, data.counts & ~again)}
    yield from found(SAME_PERSON, [
        Example(data.name_annotation(later), f"OKS {similarity:.3f} with {data.name_annotation(earlier)}",
                (Shot(data, int(data.image_row[later]), (earlier, later)),))
        for later, (earlier, similarity) in twins.items()])


def _twins(data: DataSet, wanted: Bool) -> Iterator[tuple[int, int, float]]:
    """Pairs of annotations of one image that are nearly the same, as (row, row, OKS)."""
    rows = np.flatnonzero(wanted & (data.image_row >= 0))
    rows = rows[np.argsort(data.image_row[rows], kind="stable")]
    for offset in range(1, min(NEIGHBOURS, len(rows))):
        earlier, later = rows[:-offset], rows[offset:]
        together = data.image_row[earlier] == data.image_row[later]
        if not together.any():
            return
        earlier, later = earlier[together], later[together]
        similarity = _similarity(data, earlier, later)
        for index in np.flatnonzero(similarity > SAME_INSTANCE):
            yield int(earlier[index]), int(later[index]), float(similarity[index])


def _similarity(data: DataSet, one: Int, other: Int) -> Float:
    """OKS between rows, over the keypoints that both label and the larger person's area; 0 where they share too few."""
    shared = data.labelled[one] & data.labelled[other]
    box_area = np.where(data.has_box, data.bbox_xywh[:, 2:].prod(-1), 0.0)
    area_px2 = AREA_OF_BOX * np.maximum(box_area[one], box_area[other])
    xy, other_xy = (np.where(shared[..., None], data.keypoints_xy[rows], 0.0) for rows in (one, other))
    similarity = oks(xy, other_xy, shared, np.maximum(area_px2, 1.0), data.skeleton.sigma_array)
    return np.where(shared.sum(-1) >= FEWEST_SHARED, similarity, 0.0)
