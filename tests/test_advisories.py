"""The pages on security keep to the code: versions and floors are pyproject's, and the tests that they name exist."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REQUIREMENT = re.compile(r"([\w.-]+)(?:\[[^]]*\])?([^;]*)")
LINKED_TEST = re.compile(r"\[[\w.]+\]\(\.\./(tests/[\w/.]+)\)(?: `(test_\w+)`)?")
REQUIRED_FLOORS = {"torch": "2.10", "onnx": "1.21", "opencv-python-headless": "4.14"}
PACKAGES = ("edgekp", "train", "optimize", "deploy", "eval", "benchmarks")


@pytest.fixture(scope="module")
def versions(repository: Path) -> dict[str, str]:
    """What pyproject.toml allows of each package; each is spelled the same in all extras."""
    project: dict[str, Any] = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"].values()
    texts = [*project["project"]["dependencies"], *project["build-system"]["requires"],
             *(text for extra in extras for text in extra)]
    found: dict[str, str] = {}
    for text in texts:
        match = REQUIREMENT.match(text)
        assert match is not None, text
        name, allowed = match[1], match[2].strip()
        if name != "edgekp":
            assert found.setdefault(name, allowed) == allowed, f"{name} is allowed as {allowed} and as {found[name]}"
    return found


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs/advisories.md").read_text(encoding="utf-8")


def table(page: str, title: str) -> list[list[str]]:
    """Cells of the table below a heading, without its own head."""
    below = page.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in below.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def floor_of(allowed: str) -> tuple[int, ...]:
    match = re.search(r"(?:>=|==)([\d.]+)", allowed)
    assert match is not None, f"'{allowed}' has no lower bound"
    return numbers(match[1])


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@cache
def calls(repository: Path) -> dict[str, set[str]]:
    """Names of what is called, or imported, with the files that do."""
    found: dict[str, set[str]] = {}
    for package in PACKAGES:
        for path in (repository / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    names = [dotted(node.func)]
                    names += [f"{names[0]}({word.arg}={word.value.value})" for word in node.keywords
                              if isinstance(word.value, ast.Constant)]
                elif isinstance(node, ast.Import):
                    names = [f"import {alias.name}" for alias in node.names]
                else:
                    continue
                for name in names:
                    found.setdefault(name, set()).add(str(path.relative_to(repository)))
    return found


def test_the_page_has_every_package_with_what_is_allowed(page: str, versions: dict[str, str]) -> None:
    rows = {name: allowed.strip("`") for name, allowed, _ in table(page, "Packages")}
    assert rows == versions


def test_every_package_has_a_word_on_what_is_known(page: str) -> None:
    for name, _, known in table(page, "Packages"):
        assert "none" in known or re.search(r"CVE-\d{4}-\d+|mended", known), name


def test_the_floors_hold(page: str, versions: dict[str, str]) -> None:
    floors = dict(table(page, "Floors"))
    assert floors.items() >= REQUIRED_FLOORS.items()
    for name, floor in floors.items():
        assert floor_of(versions[name]) >= numbers(floor), f"{name}{versions[name]} allows less than {floor}"


def test_what_stays_above_medium_has_a_reason(page: str) -> None:
    for what, where, why in table(page, "Above medium, and why it stays"):
        assert where
        assert len(why) > 30, what


@pytest.mark.parametrize("name", ["security.md", "reliability.md", "advisories.md"])
def test_every_test_that_a_page_names_exists(repository: Path, name: str) -> None:
    named = LINKED_TEST.findall((repository / "docs" / name).read_text(encoding="utf-8"))
    assert named
    for path, function in named:
        source = (repository / path).read_text(encoding="utf-8")
        assert f"def {function}" in source if function else "def test_" in source, f"{path} {function}"


def test_every_door_has_an_attack_an_answer_and_a_test(repository: Path) -> None:
    rows = table((repository / "docs/security.md").read_text(encoding="utf-8"), "The doors")
    assert len(rows) >= 25
    for row in rows:
        assert len(row) == 4, row
        assert all(row), row
        assert LINKED_TEST.search(row[3]), row


def test_no_shell_and_no_pickle_is_used_anywhere(repository: Path) -> None:
    found = calls(repository)
    for name in ("os.system", "os.popen", "subprocess.getoutput", "subprocess.run(shell=True)", "eval", "exec",
                 "subprocess.Popen(shell=True)", "pickle.load", "pickle.loads", "np.load(allow_pickle=True)",
                 "torch.jit.script", "torch.export.load", "yaml.load", "import yaml", "import xml.etree.ElementTree"):
        assert not found.get(name), f"{name}: {found[name]}"


def test_a_pickle_is_only_ever_read_as_weights(repository: Path) -> None:
    readers, safe = ({path for path in calls(repository)[name] if not path.startswith("benchmarks/faults/")}
                     for name in ("torch.load", "torch.load(weights_only=True)"))  # faults are planted there, by hand
    assert readers == safe == {"train/foreign_weights.py"}
