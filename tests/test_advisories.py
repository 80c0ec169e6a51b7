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
RUNS_A_TEXT = re.compile(r"""(?x) (?:import\ )? (?: eval | exec
    | os\.(system|popen) | subprocess\.(getoutput|getstatusoutput|\w+\(shell=True\))
    | pickle\.(loads?|Unpickler|\*) | numpy\.\w+\(allow_pickle=True\) | torch\.(jit\.script|export\.load)
    | yaml(\..*)? | xml\.(dom|sax)(\..*)?
    | xml\.etree\.ElementTree\.(parse|iterparse|fromstring(list)?|XML(ID|Parser|PullParser)?|\*) )""")
PACKAGES = ("edgekp", "train", "optimize", "deploy", "eval", "benchmarks")
PLANTED = "benchmarks/faults"


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


def imported(tree: ast.Module) -> dict[str, str]:
    """What each imported name stands for, spelled from its package on."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def dotted(node: ast.expr, known: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value, known)}.{node.attr}"
    return known.get(node.id, node.id) if isinstance(node, ast.Name) else ""


def used(source: str) -> set[str]:
    """Names, spelled from their package on, of what a file imports or names; with each constant keyword of a call."""
    tree = ast.parse(source)
    known = imported(tree)
    names = {f"import {name}" for name in known.values()}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load):
            names.add(dotted(node, known))
        elif isinstance(node, ast.Call):
            names |= {f"{dotted(node.func, known)}({word.arg}={word.value.value})" for word in node.keywords
                      if isinstance(word.value, ast.Constant)}
    return names


@cache
def users(repository: Path) -> dict[str, set[str]]:
    """The files that use each name; not those that plant attacks by hand."""
    found: dict[str, set[str]] = {}
    for package in PACKAGES:
        for path in (repository / package).rglob("*.py"):
            if path.parent == repository / PLANTED:
                continue
            for name in used(path.read_text(encoding="utf-8")):
                found.setdefault(name, set()).add(str(path.relative_to(repository)))
    return found


def runs_a_text(name: str) -> bool:
    """Whether what has this name runs what a text or a file says, or reads XML that can blow up."""
    return RUNS_A_TEXT.fullmatch(name) is not None


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
    assert {name: files for name, files in users(repository).items() if runs_a_text(name)} == {}


@pytest.mark.parametrize("source", [
    "import pickle; pickle.loads(b'')", "from pickle import loads", "from pickle import loads as read; read(b'')",
    "import pickle as p; map(p.load, [])", "from pickle import Unpickler", "from pickle import *",
    "import os; os.system('')", "from os import popen", "import subprocess as s; s.run('', shell=True)",
    "from subprocess import Popen; Popen('', shell=True)", "from subprocess import getoutput",
    "import numpy as np; np.load('', allow_pickle=True)", "from numpy import load; load('', allow_pickle=True)",
    "from torch import jit; jit.script(0)", "from torch.export import load", "import yaml",
    "from yaml import safe_load", "eval('')", "exec('')", "from xml.etree import ElementTree as E; E.fromstring('')",
    "from xml.etree.ElementTree import parse", "import xml.etree.ElementTree; xml.etree.ElementTree.XML('')",
    "from xml.dom import minidom", "import xml.sax"])
def test_each_spelling_of_a_shell_or_a_pickle_is_seen(source: str) -> None:
    assert any(map(runs_a_text, used(source)))


@pytest.mark.parametrize("source", [
    "from xml.etree import ElementTree; ElementTree.tostring(ElementTree.Element('a'))", "import subprocess",
    "import pickle; pickle.UnpicklingError", "import numpy as np; np.load('', allow_pickle=False)", "net.eval()",
    "import subprocess; subprocess.run([], shell=False)", "from json import loads", "from xml.parsers import expat"])
def test_what_only_looks_like_one_is_not(source: str) -> None:
    assert not any(map(runs_a_text, used(source)))


def test_a_pickle_is_only_ever_read_as_weights(repository: Path) -> None:
    readers, safe = (users(repository)[name] for name in ("torch.load", "torch.load(weights_only=True)"))
    assert readers == safe == {"train/foreign_weights.py"}
