"""Whatever JSON it is given, the doctor answers: findings, a mended copy, a page; never a traceback."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekp.doctor.examine import examine
from edgekp.doctor.fix import mended
from edgekp.doctor.page import page
from edgekp.doctor.reading import read_sets
from edgekp.doctor.report import records, text
from tests.edgekp.doctor.healthy import Case

STRANGE: list[Any] = [None, True, 0, -1, 1.5, 10**400, 1e308, -1e308, float("nan"), float("inf"), "", "left", "\0", [],
                      [[]], [1, 2], {}, {"id": 1}, [None], ["a", 1], "../" * 5000, "<script>alert(1)</script>",
                      "\ud800", "\x1b[2J\n"]
WHOLE = [None, 5, "text", [], {}, [1, 2], {"images": 5}, {"images": [], "annotations": []},
         {"images": [{}], "annotations": [{}], "categories": [{}]},
         {"images": [[]], "annotations": ["a"], "categories": 7},
         {"annotations": [{"keypoints": [], "bbox": []}, {"keypoints": [1, 2, 2]}]},
         {"images": [{"id": []}], "annotations": [{"id": {}, "image_id": []}], "categories": [{"keypoints": [1]}]},
         {"categories": [{"keypoints": ["\ud800", "left_\x1b"], "flip_pairs": [[1, 1]]}], "annotations": [
             {"id": 1, "keypoints": [0, 0, 2, 1, 1, 7]}]},
         {"annotations": [{"keypoints": 1e308, "bbox": [1, 2, 3, "4"]}]},
         {"categories": [{"keypoints": ["a", "b"], "skeleton": [[1]], "flip_pairs": [1, [0], [0, 1], [0, 1.0]]}]}]


def everything(path: Path, document: Any) -> None:
    """All that the command does with a file."""
    path.write_text(json.dumps(document))
    sets = read_sets([path, path])
    findings = examine(sets)
    said = text(sets, findings, [])
    assert "\x1b" not in said
    for output in (said, records(findings), page(sets, findings, []), json.dumps(mended(sets[0])[0])):
        assert output.encode()


@pytest.mark.parametrize("document", WHOLE, ids=[json.dumps(document)[:40] for document in WHOLE])
def test_any_json_gets_an_answer(tmp_path: Path, document: Any) -> None:
    everything(tmp_path / "any.json", document)


def leaves(value: Any) -> list[tuple[Any, Any]]:
    """Every place of a document, as (container, key)."""
    places = [(value, key) for key in (value if isinstance(value, dict) else range(len(value)))]
    return places + [place for container, key in places if isinstance(container[key], (dict, list))
                     for place in leaves(container[key])]


@pytest.mark.parametrize("seed", range(24))
def test_a_file_with_strange_values_gets_an_answer(case: Case, seed: int) -> None:
    rng = np.random.default_rng(seed)
    document = case.train
    for section in ("images", "annotations"):
        document[section] = document[section][:4]
    for _ in range(6):
        places = leaves(document)
        container, key = places[rng.integers(len(places))]
        container[key] = copy.deepcopy(STRANGE[rng.integers(len(STRANGE))])
    everything(case.folder / "strange.json", document)
