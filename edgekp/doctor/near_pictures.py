"""Pictures that look alike: a difference hash finds candidates among all pairs, a small thumbnail confirms them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgekp.doctor.picture_file import Picture
from edgekp.sample import Bool, Float, Int

NEAR_BITS = 5  # of 64: hashes of scaled, re-encoded or neighbouring pictures differ in no more
ALIKE = 0.85  # correlation of thumbnails: portraits of different people whose hashes are near have 0.73 to 0.78
ROWS_AT_ONCE = 256  # of one block of comparisons, which keeps memory near 20 MB for 10,000 pictures


@dataclass(frozen=True)
class Looks:
    """How M pictures look.

    Attributes:
        rows: (M,) of the images in their data set.
        hashes: (M,) 64 bits each.
        patterns: (M, P) float32 thumbnails of mean 0 and length 1; 0 throughout for a picture of one colour.
    """

    rows: Int
    hashes: npt.NDArray[np.uint64]
    patterns: Float

    @classmethod
    def of(cls, pictures: Sequence[Picture], wanted: Bool) -> Looks:
        """Those of the wanted pictures that were decoded."""
        seen = [(row, picture.dhash, picture.thumbnail.ravel()) for row, picture in enumerate(pictures)
                if wanted[row] and picture.dhash is not None and picture.thumbnail is not None]
        rows, hashes, grey = zip(*seen, strict=True) if seen else ((), (), np.zeros((0, 1)))
        patterns = np.asarray(grey, dtype=np.float32)
        patterns = patterns - patterns.mean(-1, keepdims=True)
        length = np.linalg.norm(patterns, axis=-1, keepdims=True)
        return cls(np.array(rows, dtype=np.int64), np.array(hashes, dtype=np.uint64),
                   patterns / np.where(length > 0, length, 1.0))


def first_alike(looks: Looks, others: Looks, before: Int) -> Int:
    """(M,) index of the first of the ``others`` below ``before[m]`` that looks like picture m; -1 if none does."""
    partner = np.full(len(looks.rows), -1)
    for start in range(0, len(looks.rows) if len(others.rows) else 0, ROWS_AT_ONCE):
        block = slice(start, start + ROWS_AT_ONCE)
        near = np.bitwise_count(looks.hashes[block, None] ^ others.hashes) <= NEAR_BITS
        near &= np.arange(len(others.rows)) < before[block, None]
        rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
        near[np.ix_(rows, columns)] &= looks.patterns[block][rows] @ others.patterns[columns].T >= ALIKE
        partner[block] = np.where(near.any(1), near.argmax(1), -1)
    return partner
