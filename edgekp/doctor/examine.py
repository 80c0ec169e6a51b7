"""The examination: annotation files in, findings out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from edgekp.doctor.boxes import check_boxes
from edgekp.doctor.dataset import DataSet
from edgekp.doctor.duplicates import check_duplicates, check_pictures_between
from edgekp.doctor.finding import Finding, merged
from edgekp.doctor.ids import check_ids
from edgekp.doctor.left_right import check_left_right
from edgekp.doctor.limbs import check_limbs
from edgekp.doctor.names import check_categories_between, check_names
from edgekp.doctor.pictures import check_pictures
from edgekp.doctor.targets import check_targets
from edgekp.doctor.values import check_values
from edgekp.doctor.visibility import check_visibility

CHECKS: tuple[Callable[[DataSet], Iterator[Finding]], ...] = (
    check_ids, check_values, check_boxes, check_visibility, check_names, check_left_right, check_limbs, check_pictures,
    check_duplicates, check_targets)
CHECKS_BETWEEN: tuple[Callable[[Sequence[DataSet]], Iterator[Finding]], ...] = (
    check_categories_between, check_pictures_between)


def examine(sets: Sequence[DataSet]) -> list[Finding]:
    """All findings, one a fault, the worst first; several sets are also held against each other."""
    with np.errstate(all="ignore"):  # NaN, infinity and absurd sizes are what the checks look for
        findings = [finding for check in CHECKS for data in sets for finding in check(data)]
        findings += [finding for check in CHECKS_BETWEEN for finding in check(sets)]
    return merged(findings)
