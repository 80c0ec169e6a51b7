"""Who is who from frame to frame, and where each person is looked for next. Knows no network and no detector."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from deploy.runtime.people.assignment import assign, first_seen, similarity
from deploy.runtime.people.people import People, read_people
from deploy.runtime.people.person_box import is_usable, margin_of, shrunk_slowly
from deploy.runtime.people.smoothing import Filtered, OneEuro
from edgekp.sample import Bool, Float, Int, Prediction
from edgekp.skeletons import Skeleton

LEAST_ALIKE = 0.2  # with less, somebody seen is somebody new
SAME = 0.9  # OKS above which two are one person seen twice
VELOCITY_S = 0.1  # over which velocities are averaged
SAME_SIZE = 1.2  # times the box of the frame before
SHRINKING_S = 0.5  # of boxes with unsure keypoints, which must not be cut off for good; all grow at once


@dataclass(frozen=True)
class Person:
    """One person of one frame.

    Attributes:
        identity: 1 for the first that was ever seen; never given twice.
        prediction: image pixels; smoothed if the tracker was asked to.
        bbox_xywh: (4,) the box around the keypoints, as the network is shown it; while some are unsure, it shrinks
            slowly.
        score: the mean over the better half of the keypoints, so that nobody is doubted for being half in view.
    """

    identity: int
    prediction: Prediction
    bbox_xywh: Float
    score: float


@dataclass(frozen=True)
class Tracks:
    """T people who are followed, the longest known first: as they were last seen, and how they move.

    Attributes:
        velocity_xy: (T, 2) pixels per second, of the person as a whole.
        seen_s: (T,) when each was last seen.
    """

    identities: Int
    people: People
    velocity_xy: Float
    seen_s: Float
    filtered: Filtered

    @classmethod
    def new(cls, first_identity: int, people: People, time_s: float) -> Tracks:
        count, keypoints = people.sure.shape
        return cls(np.arange(first_identity, first_identity + count), people, np.zeros((count, 2)),
                   np.full(count, time_s), Filtered.nothing(count, keypoints))

    def __len__(self) -> int:
        return len(self.identities)

    def take(self, rows: Int | Bool) -> Tracks:
        return Tracks(self.identities[rows], self.people.take(rows), self.velocity_xy[rows], self.seen_s[rows],
                      self.filtered.take(rows))

    def join(self, others: Tracks) -> Tracks:
        return Tracks(np.concatenate([self.identities, others.identities]), self.people.join(others.people),
                      np.concatenate([self.velocity_xy, others.velocity_xy]),
                      np.concatenate([self.seen_s, others.seen_s]), self.filtered.join(others.filtered))

    def at(self, time_s: float) -> People:
        """Where they should be at another time, if they go on as they did."""
        return self.people.moved(self.velocity_xy * (time_s - self.seen_s)[:, None])

    def seen_again(self, people: People, time_s: float) -> Tracks:
        """Each of them as row by row of ``people`` says."""
        both = (self.people.sure & people.sure)[..., None]
        step_xy = (both * (people.keypoints_xy - self.people.keypoints_xy)).sum(1) / np.maximum(both.sum(1), 1)
        elapsed_s = np.maximum(time_s - self.seen_s, 1e-6)[:, None]
        weight = 1 - np.exp(-elapsed_s / VELOCITY_S)
        moved_xy = np.where(self._keeps_its_size(people), step_xy, 0.0)
        velocity_xy = self.velocity_xy + weight * (moved_xy / elapsed_s - self.velocity_xy)
        kept = np.where(people.sure.all(1, keepdims=True), 0.0, np.exp(-elapsed_s / SHRINKING_S))
        boxes_xywh = shrunk_slowly(self.at(time_s).boxes_xywh, people.boxes_xywh, kept)
        return replace(self, people=replace(people, boxes_xywh=boxes_xywh), velocity_xy=velocity_xy,
                       seen_s=np.full(len(self), time_s))

    def _keeps_its_size(self, people: People) -> Bool:
        """(T, 1) False where the estimate is still closing in on somebody, so that its steps are no motion."""
        ratio = people.boxes_xywh[:, 2:].max(1) / self.people.boxes_xywh[:, 2:].max(1)
        return np.asarray(np.maximum(ratio, 1 / ratio) < SAME_SIZE)[:, None]


class Tracker:
    """Gives the people of each frame their identities.

    Attributes:
        lost: identities that the last ``update`` gave up.
    """

    def __init__(self, skeleton: Skeleton, *, most_people: int, score: float, keep_s: float = 0.5,
                 smoothing: OneEuro | None = None) -> None:
        """
        Args:
            score: of a keypoint that is counted on, and of a person who is there.
            keep_s: how long somebody unseen is looked for; a longer pause between two frames forgets everybody.
        """
        self._sigmas, self._margin, self._keypoints = skeleton.sigma_array, margin_of(skeleton), len(skeleton)
        self._most_people, self._score, self._keep_s, self._smoothing = most_people, score, keep_s, smoothing
        self._tracks = Tracks.new(1, self._read([], None), 0.0)
        self._frame_hw, self._time_s, self._next = (0, 0), 0.0, 1
        self.lost: tuple[int, ...] = ()

    def expected_xywh(self, time_s: float, frame_hw: tuple[int, int]) -> Float:
        """(T, 4) boxes where those who are followed should be in a frame of that time and size, the oldest first."""
        return self._still_followed(time_s, frame_hw).at(time_s).boxes_xywh

    def update(self, predictions: list[Prediction], boxes_xywh: Float | None, time_s: float,
               frame_hw: tuple[int, int]) -> list[Person]:
        """The people of a frame, the longest known first; who is doubtful, or seen twice, is left out.

        Args:
            boxes_xywh: (N, 4) the boxes that the N predictions were made from; None for models of whole scenes.
        """
        tracks = self._still_followed(time_s, frame_hw)
        read = self._read(predictions, boxes_xywh)
        rows, found, new = self._recognised(tracks.at(time_s), read, self._credible(read, frame_hw))
        known = tracks.take(rows).seen_again(read.take(found), time_s)
        present = self._smoothed(known.join(Tracks.new(self._next, read.take(new), time_s)), time_s)
        everybody = present.join(tracks.take(np.delete(np.arange(len(tracks)), rows)))
        self.lost = tuple(np.setdiff1d(self._tracks.identities, everybody.identities).tolist())
        self._tracks = everybody.take(np.argsort(everybody.identities))
        self._frame_hw, self._time_s, self._next = frame_hw, time_s, self._next + len(new)
        return [self._person(present, row, predictions[index])
                for row, index in enumerate(np.append(found, new).tolist())]

    def _read(self, predictions: list[Prediction], boxes_xywh: Float | None) -> People:
        return read_people(predictions, boxes_xywh, self._keypoints, self._score, self._margin)

    def _still_followed(self, time_s: float, frame_hw: tuple[int, int]) -> Tracks:
        """Nobody in a stream that started anew; else who was seen of late and should be in view."""
        if frame_hw != self._frame_hw or time_s < self._time_s:
            return self._tracks.take(np.zeros(0, dtype=np.int64))
        recent = time_s - self._tracks.seen_s <= self._keep_s
        return self._tracks.take(recent & is_usable(self._tracks.at(time_s).boxes_xywh, frame_hw))

    def _credible(self, read: People, frame_hw: tuple[int, int]) -> Int:
        """Rows of those who are somebody, the best first."""
        somebody = (read.scores >= self._score) & (read.scores > 0) & is_usable(read.boxes_xywh, frame_hw)
        best_first = np.argsort(-read.scores, kind="stable")
        return best_first[somebody[best_first]]

    def _recognised(self, expected: People, read: People, credible: Int) -> tuple[Int, Int, Int]:
        """Rows of tracks, the rows of ``read`` that are the same people, and those of newcomers.

        When two tracks are on one person, the older has seen it and the newer has not: after two people crossed it goes
        on where its velocity took it, and if there never were two it is soon given up.
        """
        rows, places = assign(similarity(expected, read.take(credible), self._sigmas), LEAST_ALIKE)
        by_age = np.append(credible[places], np.delete(credible, places))
        is_first = first_seen(read.take(by_age), self._sigmas, SAME)
        known, new = is_first[:len(rows)], is_first[len(rows):]
        newcomers = by_age[len(rows):][new][:self._most_people - len(expected)]
        return rows[known], by_age[:len(rows)][known], newcomers

    def _smoothed(self, tracks: Tracks, time_s: float) -> Tracks:
        if self._smoothing is None:
            return tracks
        people = tracks.people
        return replace(tracks, filtered=self._smoothing.step(tracks.filtered, people.keypoints_xy, people.sure,
                                                            people.boxes_xywh[:, 2:].max(-1), time_s))

    def _person(self, tracks: Tracks, row: int, prediction: Prediction) -> Person:
        people = tracks.people
        if self._smoothing is not None:
            shown_xy = np.where(people.sure[row, :, None], tracks.filtered.keypoints_xy[row], prediction.keypoints_xy)
            prediction = replace(prediction, keypoints_xy=shown_xy)
        return Person(int(tracks.identities[row]), prediction, people.boxes_xywh[row], float(people.scores[row]))
