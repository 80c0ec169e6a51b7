"""Errors: one class tree, sentences that say what was found and what to do, and a command line that keeps to them."""

from __future__ import annotations

import argparse
import ast
import builtins
import errno
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch

from edgekp import errors
from edgekp.cli import Parser, add_debug, input_size, run
from edgekp.errors import DataError, EdgekpError, of_the_system, unknown_name

PACKAGES = ("edgekp", "train", "optimize", "deploy", "eval")
TREE = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, EdgekpError)}

# Where a class of Python itself is raised and not caught in the same file, with the reason.
ALLOWED = {
    "argparse.ArgumentTypeError": "argparse's own way to refuse a value: usage line and exit code 2",
    "argparse.ArgumentError": "argparse's own way to refuse a choice",
    "KeyboardInterrupt": "how a signal reaches edgekp.cli, which ends with 130",
    "AssertionError": "ours to mend, not the user's",
    "SystemExit": "the exit code of a process that was started for one task",
    "ModuleNotFoundError": "an optional package: the message names the extra that brings it",
    "OSError": "a file that the system would refuse too; edgekp.cli says the remedy by its number",
    "MemoryError": "edgekp.cli says it in one line",
}
CAUGHT_BY_CALLERS = {
    "edgekp/codecs/gaussian_kernel.py": "shapes that only our own code can get wrong",
    "edgekp/codecs/openpose_kernel.py": "shapes that only our own code can get wrong",
    "edgekp/golden.py": "golden vectors are read in edgekp/artifact.py, which names the folder",
    "edgekp/json_file.py": "turned into a DataError that names the file",
    "edgekp/sealed_json.py": "turned into an error of the reader's, which names the file",
    "edgekp/strict.py": "turned into a RecipeError that names the file",
    "deploy/runtime/detectors/onnx_header.py": "an IndexError means damage to the reader of the header",
    "deploy/runtime/trt/stamp.py": "a TypeError means a damaged stamp to its reader",
}
WHAT_TO_DO = re.compile(r"; |expected|needs?\b|, but |no such|cannot be (read|written)|cannot read|run: |did you mean|"
                        r"name a step|at most|do(es)? not fit|golden vectors|not an? ")
FRAGMENTS = re.compile(r"[\W\d_]*")  # only the values of variables: the sentence is made elsewhere
UNFINISHED = {"deploy/runtime/trt/stamp.py", "deploy/runtime/detectors/layouts.py"}  # a caller ends these with a remedy


@cache
def modules(repository: Path) -> tuple[tuple[str, ast.Module], ...]:
    return tuple((str(path.relative_to(repository)), ast.parse(path.read_text(encoding="utf-8")))
                 for package in PACKAGES for path in sorted((repository / package).rglob("*.py")))


@cache
def about_errors(tree: ast.Module) -> tuple[ast.Raise | ast.ExceptHandler | ast.ClassDef, ...]:
    return tuple(node for node in ast.walk(tree) if isinstance(node, (ast.Raise, ast.ExceptHandler, ast.ClassDef)))


@cache
def raised(tree: ast.Module) -> tuple[tuple[ast.Raise, str], ...]:
    """Each ``raise Class(...)`` of a file with the name of the class; what raises a variable is no class."""
    named = [(node, ast.unparse(node.exc.func if isinstance(node.exc, ast.Call) else node.exc))
             for node in about_errors(tree) if isinstance(node, ast.Raise) and node.exc is not None]
    return tuple((node, name) for node, name in named if name.split(".")[-1][0].isupper())


@cache
def caught(tree: ast.Module) -> set[str]:
    types = [node.type for node in about_errors(tree) if isinstance(node, ast.ExceptHandler) and node.type]
    return {ast.unparse(each) for kind in types for each in (kind.elts if isinstance(kind, ast.Tuple) else [kind])}


def sentence(node: ast.expr) -> str:
    """What is constant of a message, with {} for what is not."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(sentence(part) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    if isinstance(node, ast.BinOp):
        return sentence(node.left) + sentence(node.right)
    return "{}"


def messages(repository: Path) -> Iterator[tuple[str, str]]:
    """Place and sentence of each error of the tree that is raised with a sentence of its own."""
    for path, tree in modules(repository):
        for node, name in raised(tree):
            if name in TREE and isinstance(node.exc, ast.Call) and node.exc.args:
                yield f"{path}:{node.lineno}", sentence(node.exc.args[0])


def test_what_a_user_can_cause_is_of_the_one_tree(repository: Path) -> None:
    strangers = []
    for path, tree in modules(repository):
        own = {node.name for node in about_errors(tree) if isinstance(node, ast.ClassDef)}
        for node, name in raised(tree):
            if name in TREE or name in ALLOWED or name in own or path in CAUGHT_BY_CALLERS:
                continue
            if name not in caught(tree) and hasattr(builtins, name):
                strangers.append(f"{path}:{node.lineno} {name}")
    assert strangers == []


def test_an_error_class_elsewhere_is_private_or_of_the_tree(repository: Path) -> None:
    """A private one never leaves its file: it is caught there by name."""
    for path, tree in modules(repository):
        for node in about_errors(tree):
            if isinstance(node, ast.ClassDef) and path != "edgekp/errors.py":
                bases = {ast.unparse(base) for base in node.bases}
                if any(hasattr(builtins, base) and issubclass(getattr(builtins, base), BaseException)
                       for base in bases if isinstance(getattr(builtins, base, None), type)):
                    assert node.name.startswith("_"), f"{path}: {node.name}"
                    assert node.name in caught(tree) or bases & caught(tree), f"{path}: {node.name} is caught nowhere"


def test_the_list_of_files_that_raise_for_their_callers_is_short_and_alive(repository: Path) -> None:
    found = {path for path, tree in modules(repository) for _, name in raised(tree)
             if name in {"ValueError", "IndexError", "TypeError", "KeyError", "RuntimeError"} and name not in ALLOWED}
    assert not CAUGHT_BY_CALLERS.keys() - found - {"edgekp/json_file.py"}
    assert len(CAUGHT_BY_CALLERS) < 12


def test_a_broad_except_has_its_reason_beside_it(repository: Path) -> None:
    for path, tree in modules(repository):
        lines = (repository / path).read_text(encoding="utf-8").splitlines()
        for node in about_errors(tree):
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, f"{path}:{node.lineno}: bare except"
                if ast.unparse(node.type) in ("Exception", "BaseException"):
                    reason = lines[node.lineno - 1].partition("#")[2]
                    ends_by_raising = isinstance(node.body[-1], ast.Raise)
                    assert len(reason) > 30 or ends_by_raising, f"{path}:{node.lineno}: why so broad?"


def test_every_message_says_what_to_do(repository: Path) -> None:
    silent = [f"{place}: {text}" for place, text in messages(repository)
              if not WHAT_TO_DO.search(text) and not FRAGMENTS.fullmatch(text.replace("{}", ""))
              and place.partition(":")[0] not in UNFINISHED
              and not re.fullmatch(r"[\w ./'{}-]+(: \{\})+( \(.*\))?", text)]  # a sentence made elsewhere
    assert silent == []


def test_every_message_is_one_line_that_starts_with_what_was_found(repository: Path) -> None:
    found = list(messages(repository))
    assert len(found) > 300, "the rules of this file see fewer messages than there are"
    for place, text in found:
        assert "\n" not in text, place
        assert not text.endswith((".", "!", " ")), f"{place}: {text}"
        assert not re.match(r"(error|failed|invalid|sorry|please)\b", text, re.IGNORECASE), f"{place}: {text}"
        assert not re.search(r"\b(oops|unfortunately|something went wrong)\b", text, re.IGNORECASE), f"{place}: {text}"


# The command line.

def fails(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def main(_: argparse.Namespace) -> int:
        raise error
    return main


def parser() -> Parser:
    made = Parser(prog="tool")
    made.add_argument("--recipe")
    add_debug(made)
    return made


@pytest.mark.parametrize(("error", "words"), [
    (OSError(errno.ENOSPC, "No space left on device", "runs/x"), ("runs/x: No space", "free some space")),
    (PermissionError(errno.EACCES, "Permission denied", "a.json"), ("a.json: Permission denied", "permissions")),
    (OSError(errno.EMFILE, "Too many open files"), ("Too many", "ulimit -n")),
    (OSError("no number at all"), ("no number at all", "run it again")),
    (MemoryError(), ("out of memory",)),
    (MemoryError("Unable to allocate 5 GiB"), ("out of memory (Unable to allocate 5 GiB)",)),
    (DataError("a.json: broken"), ("a.json: broken",)),
], ids=lambda value: type(value).__name__)
def test_what_the_system_refuses_is_one_line_with_a_remedy(
        error: BaseException, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fails(error), parser(), []) == 2
    told = capsys.readouterr().err
    assert told.startswith("tool: ")
    assert told.count("\n") == 1
    assert all(word in told for word in words)
    with pytest.raises(type(error)):
        run(fails(error), parser(), ["--debug"])


def test_a_bug_of_ours_keeps_its_traceback_and_is_no_failed_gate(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fails(KeyError("ours")), parser(), []) == 2
    told = capsys.readouterr().err
    assert told.startswith("Traceback")
    assert told.endswith("KeyError: 'ours'\n")


def test_pytorch_without_memory_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError) as lacking:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert run(fails(lacking.value), parser(), []) == 2
    told = capsys.readouterr().err
    assert told.startswith("tool: out of memory (")
    assert told.endswith("; free some, or lower the batch\n")
    assert told.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_error_that_nobody_can_read_is_a_2_still(repository: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "edgekp", "verify", "nowhere"], cwd=repository, stderr=full,
                              check=False)
    assert done.returncode == 2


def test_an_argument_with_a_line_break_does_not_make_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(lambda _: 0, parser(), ["bo\ngus"])
    assert capsys.readouterr().err.splitlines()[-1].startswith("tool: error: unrecognized arguments: bo\\ngus")


def test_a_name_with_a_line_break_does_not_make_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fails(DataError("a\nb.json: broken")), parser(), []) == 2
    assert capsys.readouterr().err == "tool: a\\nb.json: broken\n"


@pytest.mark.parametrize("error", [DataError("\x1b[2J.json: broken"), OSError(errno.ENOENT, "none", "\x1b[2J"),
                                   MemoryError("\x1b[2J"), KeyError("ours"), ValueError("\x1b[2J")],
                         ids=lambda value: type(value).__name__)
def test_no_error_writes_a_control_character(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fails(error), parser(), []) == 2
    assert all(line.isprintable() for line in capsys.readouterr().err.splitlines())


SECRET = "hun ter'2\\"


@pytest.mark.parametrize("argv", [
    [f"rtsp://me:{SECRET}@host/live"], ["--camara", f"rtsp://me:{SECRET}@host/live"],
    [f"--camara=rtsp://me:{SECRET}@host/live"], ["--threads", f"rtsp://me:{SECRET}@host/live"],
    [f"--threads=rtsp://host/{SECRET}"], [f"-trtsp://me:{SECRET}@host"],
    ["--kind", f"gst://rtspsrc user-pw={SECRET} !"],
    ["--size", f"RTSP://me:{SECRET}@host"], [f"me:{SECRET}@host", f"http://host?pwd={SECRET}"],
    ["show", f"--camara=rtsp://me:{SECRET}@host"], ["show", "--threads", f"rtsp://me:{SECRET}@host"],
    [f"rtsp://me:{SECRET}@host", "show"]])
def test_no_error_about_arguments_shows_a_password(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    made = parser()
    for each in (made, made.add_subparsers().add_parser("show")):
        each.add_argument("--threads", "-t", type=int)
        each.add_argument("--kind", choices=["a", "b"])
        each.add_argument("--size", type=input_size)
    with pytest.raises(SystemExit):
        run(lambda _: 0, made, argv)
    told = capsys.readouterr().err.splitlines()[-1]
    assert "error: " in told
    assert not any(part in told for part in ("me:", "hun", "ter", "'2"))


def test_an_argument_without_a_secret_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(lambda _: 0, parser(), ["stray", "rtsp://me:secret@host:554/live", "walk.mkv"])
    assert "unrecognized arguments: stray rtsp://host:554/... walk.mkv; see" in capsys.readouterr().err


def test_a_rename_names_both_places() -> None:
    error = OSError(errno.EXDEV, "Invalid cross-device link", "a", None, "b")
    assert of_the_system(error).startswith("a -> b: Invalid cross-device link; ")


def test_every_remedy_is_for_an_error_that_the_system_knows() -> None:
    for number, remedy in errors.REMEDIES.items():
        assert number in errno.errorcode
        assert not remedy.endswith(".")


@pytest.mark.parametrize(("argv", "hint"), [
    (["--recpie", "x"], "did you mean '--recipe'?"), (["--recpie=" + "x" * 40], "did you mean '--recipe'?"),
    (["--zzz"], "see tool --help"), (["stray"], "unrecognized arguments: stray")])
def test_an_unknown_option_names_the_nearest(argv: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run(lambda _: 0, parser(), argv)
    told = capsys.readouterr().err
    assert end.value.code == 2
    assert told.startswith("usage: tool")
    assert hint in told.splitlines()[-1]


def test_an_unknown_command_names_the_nearest_at_every_depth(capsys: pytest.CaptureFixture[str]) -> None:
    root = Parser(prog="tool")
    inner = root.add_subparsers(metavar="COMMAND", required=True).add_parser("show")
    inner.add_subparsers(metavar="SUBJECT", required=True).add_parser("targets").add_argument("--count", type=int)
    for argv, hint in ((["shwo"], "no command 'shwo'; did you mean 'show'?"),
                       (["show", "target"], "no subject 'target'; did you mean 'targets'?"),
                       (["show", "targets", "--cuont", "1"], "did you mean '--count'?")):
        with pytest.raises(SystemExit):
            root.parse_args(argv)
        assert hint in capsys.readouterr().err.splitlines()[-1]
    assert root.parse_args(["show", "targets", "--count", "3"]).count == 3


def test_the_nearest_name_is_first_and_the_list_follows() -> None:
    assert unknown_name("loss", "mes", ["mse", "wing"]) == "no loss 'mes'; did you mean 'mse'? known: mse, wing"
    assert unknown_name("loss", "qqq", ["mse"]) == "no loss 'qqq'; known: mse"


def test_a_printed_name_that_the_terminal_lacks_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    def main(_: argparse.Namespace) -> int:
        print("s\udcff \ud800.png")
        return 0
    assert run(main, parser(), []) == 0
    assert capsys.readouterr().out == "s\\udcff \\ud800.png\n"
    assert sys.stdout is not None
