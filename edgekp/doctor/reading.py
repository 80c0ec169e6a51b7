"""Annotation files and their images, read for the examination; what is no JSON or absurdly large is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgekp.doctor.dataset import DataSet, Plan
from edgekp.doctor.picture_file import look_at
from edgekp.doctor.skeleton_choice import skeleton_of
from edgekp.json_file import read_labels
from edgekp.printable import printable
from edgekp.skeletons import Skeleton


def read_sets(paths: Sequence[Path], images: Path | None = None, skeleton: Skeleton | None = None,
              plan: Plan | None = None, decode: bool = True) -> list[DataSet]:
    """One data set a file.

    Args:
        images: folder of the image files; by default each file's own.
        skeleton: by default the one that each file's categories tell.
        decode: also read the pixels, not only the headers.

    Raises:
        DataError: A file is missing, no JSON, or has too many keypoints.
    """
    are_clear = len({path.name for path in paths}) == len(paths)
    sets = []
    for path in paths:
        document = read_labels(path)
        data = DataSet(printable(path.name if are_clear else str(path)), document, images or path.parent,
                       skeleton or skeleton_of(document, str(path)), plan)
        sets.append(replace(data, pictures=look_at(data.root, data.file_names, decode)))
    return sets
