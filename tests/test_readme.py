"""The README and docs/ say what is true: links lead somewhere, commands exist, listed files are there."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
from pathlib import Path

import pytest

SHELL_WORDS = {"git", "cd", "export"}
ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(path: Path) -> list[list[str]]:
    """Each command of the bash blocks as words; placeholders in angle brackets are words too."""
    lines = [re.sub(r"<[^>]*>", "PLACEHOLDER", line) for block in blocks(path, "bash") for line in block.splitlines()]
    return [shlex.split(part, comments=True) for line in lines for part in line.split("&&") if part.strip()]


def is_known(words: list[str], repository: Path) -> bool:
    """Would a shell in an activated checkout find this command?"""
    if words[0] == "make":
        return subprocess.run(["make", "--dry-run", *words[1:]], cwd=repository, capture_output=True,
                              check=False).returncode == 0
    if words[:2] == ["python", "-m"]:
        return importlib.util.find_spec(words[2]) is not None
    if words[0] == "torchrun":
        return importlib.util.find_spec(words[words.index("-m") + 1]) is not None
    if words[0] in ("python", "sbatch"):
        return (repository / words[1]).is_file()
    scripts = (repository / "pyproject.toml").read_text()
    return words[0] in SHELL_WORDS or f'{words[0]} = "edgekp.__main__:main"' in scripts


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8"))
    missing = [target for target in targets if "://" not in target and not (document.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_exists(document: Path, repository: Path) -> None:
    unknown = [words for words in commands(document) if not is_known(words, repository)]
    assert unknown == []


@pytest.mark.parametrize("words", [
    ["make", "trian"], ["python", "-m", "trian"], ["python", "deploy/nothing.py"], ["edge"],
    ["torchrun", "--nproc-per-node", "2", "-m", "trian"], ["sbatch", "examples/slrum.sh"]])
def test_a_command_that_does_not_exist_would_be_found(words: list[str], repository: Path) -> None:
    assert not is_known(words, repository)


def test_every_make_verb_in_the_text_is_a_target(repository: Path) -> None:
    text = (repository / "README.md").read_text(encoding="utf-8")
    verbs = set(re.findall(r"`make ([a-z-]+)", text))
    targets = set(re.findall(r"^([a-z-]+):", (repository / "Makefile").read_text(), re.MULTILINE))
    assert verbs
    assert verbs <= targets


def test_every_file_of_the_tree_is_there(repository: Path) -> None:
    tree = next(block for block in blocks(repository / "README.md", "text") if block.startswith("edgekp/"))
    folder, missing = "", []
    for line in tree.splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            folder = name
        path = repository / (folder if folder == name else folder + name)
        missing += [] if path.exists() else [path]
    assert missing == []


def test_every_recipe_is_listed(repository: Path) -> None:
    text = (repository / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in (repository / "recipes").glob("*.toml") if f"(recipes/{path.name})" not in text] == []


def test_every_target_of_make_is_phony_and_explained(repository: Path) -> None:
    """train/ and eval/ are folders: without .PHONY, make would call them up to date."""
    makefile = (repository / "Makefile").read_text()
    explained = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    assert explained == set(phony.group(1).split())
    listed = subprocess.run(["make", "help"], cwd=repository, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  make ([a-z-]+)", listed, re.MULTILINE)) == explained


def test_stages_keep_their_order_even_when_make_may_run_them_side_by_side(repository: Path) -> None:
    planned = subprocess.run(["make", "--dry-run", "-j8", "train", "optimize", "export", "eval", "gate", "report"],
                             cwd=repository, capture_output=True, text=True, check=True).stdout
    order = re.findall(r"-m (train|optimize|deploy\.export|eval \w+) ", planned)
    assert order == ["train", "optimize", "deploy.export", "eval run", "eval gate", "eval waterfall", "eval report",
                     "eval card"]
