"""Nothing is found in a healthy set; every fault, planted alone, is found under its code and under no other."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import pytest

import edgekp.doctor
from edgekp.doctor.finding import EXAMPLES, Fault
from edgekp.doctor.fix import FIXES
from tests.edgekp.doctor.healthy import Case
from tests.edgekp.doctor.planted import FAULTS, Plant


def all_faults() -> list[Fault]:
    """Every fault that a module of the doctor declares."""
    modules = [importlib.import_module(f"edgekp.doctor.{entry.name}")
               for entry in pkgutil.iter_modules(edgekp.doctor.__path__)]
    return list({value.code: value for module in modules for value in vars(module).values()
                 if isinstance(value, Fault)}.values())


def test_nothing_is_found_in_a_healthy_set(case: Case) -> None:
    assert case.examine() == []


@pytest.mark.parametrize(("code", "plant"), FAULTS.values(), ids=FAULTS.keys())
def test_a_planted_fault_is_found_under_its_code_and_no_other(case: Case, code: str, plant: Plant) -> None:
    plant(case)
    assert case.codes() == {code}


def test_every_fault_is_planted_once() -> None:
    assert {code for code, _ in FAULTS.values()} == {fault.code for fault in all_faults()}


def test_the_fixable_faults_are_those_that_have_a_fix() -> None:
    assert {fault.code for fault in all_faults() if fault.fixable} == FIXES.keys()


def test_the_documentation_lists_every_fault_as_it_is(repository: Path) -> None:
    rows = [line for line in (repository / "docs/doctor.md").read_text(encoding="utf-8").splitlines()
            if line.startswith("| `") and "--" not in line]
    assert sorted(rows) == sorted(
        f"| `{fault.code}` | {fault.severity} | {fault.what} | {'yes |' if fault.fixable else '|'}"
        for fault in all_faults())


def test_places_are_counted_over_all_files_and_three_are_named(case: Case) -> None:
    for entry in [*case.train["annotations"], *case.val["annotations"]]:
        entry["area"] = 0
    finding, = case.examine()
    assert finding.count == len(case.train["annotations"]) + len(case.val["annotations"])
    assert [str(example) for example in finding.examples] == [
        f"train.json: annotation {number}: area 0" for number in range(1, EXAMPLES + 1)]


def test_the_worst_come_first(case: Case) -> None:
    for name in ("no num_keypoints", "images from 0", "area 0"):
        FAULTS[name][1](case)
    assert [finding.fault.severity for finding in case.examine()] == ["error", "warning", "note"]


def test_without_pixels_headers_are_still_read(case: Case) -> None:
    for name in ("cut off", "half the size"):
        FAULTS[name][1](case)
    assert case.codes(decode=False) == {"image-resized"}
