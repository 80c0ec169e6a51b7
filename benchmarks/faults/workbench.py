"""A tiny run of the pipeline, trained, exported and measured, and the commands that write into it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.faults.commands import Done, Main, run_command
from benchmarks.faults.run_folders import RUN, write_recipe
from edgekp.errors import StageError

PICTURES, LABELS = RUN / "data/images/val", RUN / "data/val.json"
EXPORT = RUN / "export/cpu"
OF_RECIPE = ("--recipe", f"{RUN.name}.toml")
LIMIT_S = 120.0


@dataclass(frozen=True)
class Door:
    """One command that writes, and where.

    Attributes:
        writes: the file or folder that the command replaces.
        streams: whether it appends to a file that it has emptied, line by line.
    """

    name: str
    main: Main
    words: tuple[str, ...]
    writes: Path
    streams: bool = False

    def open(self) -> Done:
        return run_command(self.main, self.words, LIMIT_S)


def contents(path: Path) -> dict[str, bytes]:
    """The bytes of a file, or of all files below a folder, by their names."""
    files = path.rglob("*") if path.is_dir() else [path]
    return {str(file): file.read_bytes() for file in sorted(files) if file.is_file()}


def changed(before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    """Results that are gone or not what they were; locks and caches are none."""
    return [name for name, data in before.items()
            if after.get(name) != data and not name.endswith((".lock", ".cache"))]


def judged(before: dict[str, bytes], after: dict[str, bytes], done: Done) -> tuple[str, str]:
    """The verdict on a command that could not write, and why; no reason where it was refused as it should be."""
    if gone := changed(before, after):
        return "lost", f"changed: {', '.join(gone)}; it said {done.said[-600:]!r}"
    if done.status == 0:
        return "silent", "it says that all went well"
    if not done.is_clear:
        return "lost", f"no clear line: {done.said[-600:]!r}"
    return "survived", ""


def doors() -> list[Door]:
    """Everything that a user may have written to a disk."""
    from deploy.export.__main__ import main as export
    from deploy.run_onnx import main as run_onnx
    from edgekp.__main__ import main as edgekp
    from eval.__main__ import main as evaluate
    from train.__main__ import main as train

    camera = ("--artifact", str(EXPORT), "--camera", str(PICTURES), "--no-window", "--loop", "--frames", "60")
    measured = ("run", "--artifact", str(EXPORT), "--data", str(LABELS))
    return [
        Door("train", train, (*OF_RECIPE, "--set", "train.epochs=2"), RUN / "train"),
        Door("export", export, (*OF_RECIPE, "--target", "cpu", "--force"), EXPORT),
        Door("engine", _build_engine, (str(EXPORT), "--force"), EXPORT / "model.engine"),
        Door("predictions", evaluate, (*measured, "--predictions", "out/predictions.json"),
             Path("out/predictions.json")),
        Door("report", evaluate, ("report", "--run", str(RUN), "--out", "out/report.html"), Path("out/report.html")),
        Door("model card", evaluate, ("card", "--run", str(RUN), "--out", "out/card.md"), Path("out/card.md")),
        Door("mended labels", edgekp, ("doctor", "data", str(LABELS), "--fix", "out/mended.json"),
             Path("out/mended.json")),
        Door("imported labels", edgekp, ("import", "cvat", "cvat.json", "--skeleton", "coco17", "--images",
                                         str(RUN / "data"), "--out", "out/imported.json"), Path("out/imported.json")),
        Door("JSON lines", run_onnx, (*camera, "--json", "out/people.jsonl"), Path("out/people.jsonl"), streams=True),
        Door("video", run_onnx, (*camera, "--save", "out/people.mp4"), Path("out/people.mp4")),
    ]


@contextmanager
def workbench() -> Iterator[Path]:
    """A folder with the run, where every door has been used once; the current one as long as it lasts.

    Raises:
        StageError: A command failed, before any fault was made.
    """
    from deploy.export.__main__ import main as export
    from eval.__main__ import main as evaluate
    from train.__main__ import main as train

    before = Path.cwd()
    with TemporaryDirectory() as name:
        os.chdir(name)
        try:
            Path("out").mkdir()
            write_recipe(Path(), instances=16, epochs=1)
            for main, words in ((train, OF_RECIPE), (export, (*OF_RECIPE, "--target", "cpu")),
                                (evaluate, ("run", *OF_RECIPE))):
                _require(run_command(main, words, LIMIT_S))
            shutil.copy(LABELS, "cvat.json")
            for door in doors():
                if not door.writes.exists():
                    _require(door.open())
            yield Path(name)
        finally:
            os.chdir(before)


def _require(done: Done) -> None:
    if done.status != 0:
        raise StageError(f"no fault made yet, and a command ended with {done.status}: {done.said}")


def _build_engine(words: Sequence[str]) -> int:
    """build_engine.py on a machine with a GPU, as far as it sees."""
    from deploy.build_engine import main
    from deploy.runtime.gpu import backend
    from tests.deploy.trt.fake_tensorrt import fake_tensorrt
    from tests.deploy.trt.host_driver import HostDriver

    sys.modules["tensorrt"] = fake_tensorrt("10.3.0")
    backend.open_driver = HostDriver  # in a child of its own
    return main(words)
