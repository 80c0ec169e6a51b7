"""Stages: each decides by content whether its result is up to date, says why it runs, and publishes in one step."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

from edgekp.atomic import can_be_replaced, published_folder, restore_retired, write_file
from edgekp.changed_files import change, files_below, first_changed
from edgekp.contract import flatten
from edgekp.errors import StageError
from edgekp.json_file import MANIFEST_BYTES, parse_json, read_json
from edgekp.printable import printable

KEY_FILE = "stage.json"
ADDED_LATER = ".hmac"  # a result is signed in its place


@dataclass(frozen=True)
class Key:
    """All that a stage's result depends on.

    Attributes:
        version: raised by hand when the stage's code changes its result.
        settings: the recipe's sections that the stage reads, as dataclasses or plain values.
        inputs: digest of each input by name.
    """

    stage: str
    version: int
    settings: dict[str, Any]
    inputs: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        settings = {name: _plain(value) for name, value in self.settings.items()}
        entry = {"stage": self.stage, "version": self.version, "settings": settings, "inputs": self.inputs}
        return dict(json.loads(json.dumps(entry)))

    def reasons_to_run(self, folder: Path) -> list[str]:
        """Why the result in ``folder`` does not answer this key; empty when it does."""
        restore_retired(folder)
        try:
            found = _entry(parse_json((folder / KEY_FILE).read_bytes(), KEY_FILE, StageError))
        except FileNotFoundError:
            return ["no result yet"]
        except StageError:
            return [f"{KEY_FILE} cannot be read"]
        files = found.pop("files")
        old, new = dict(flatten(found)), dict(flatten(self.to_json()))
        changed = first_changed(folder, files)
        return [f"{name}: {change(old.get(name), new.get(name))}" for name in sorted(old.keys() | new.keys())
                if old.get(name) != new.get(name)] + ([f"{changed} was changed or damaged"] if changed else [])


def run_stage(folder: Path, key: Key, work: Callable[[Path], None], *, force: bool = False) -> bool:
    """Let ``work`` fill a scratch folder and publish it as ``folder``, unless the result there is up to date."""
    reasons = ["--force"] if force else key.reasons_to_run(folder)
    if not reasons:
        say(f"{key.stage}: up to date ({folder})")
        return False
    more = f" (and {len(reasons) - 3} more)" if len(reasons) > 3 else ""
    say(f"{key.stage}: running because {'; '.join(reasons[:3])}{more}")
    _require_place(folder)
    with published_folder(folder) as scratch:
        work(scratch)
        entry = key.to_json() | {"files": files_below(scratch, ADDED_LATER)}
        write_file(scratch / KEY_FILE, json.dumps(entry, indent=1) + "\n")
    say(f"{key.stage}: done ({folder})")
    return True


def require_stage(folder: Path, command: str) -> Path:
    """The folder of an earlier stage, each file as it was written, or a StageError that names the command for it."""
    restore_retired(folder)
    if not (folder / KEY_FILE).is_file():
        raise StageError(f"{folder}: no result there; run: {command}")
    try:
        changed = first_changed(folder, _entry(read_json(folder / KEY_FILE, MANIFEST_BYTES, StageError))["files"])
    except StageError:
        changed = KEY_FILE
    if changed:
        raise StageError(f"{folder}: {changed} was changed or damaged since it was written; run: {command}")
    return folder


def _entry(found: Any) -> dict[str, Any]:
    """What was read from a stage.json, if it states the digests of the stage's files."""
    files = found.get("files") if isinstance(found, dict) else None
    if not isinstance(files, dict) or not all(isinstance(digest, str) for digest in files.values()):
        raise StageError(f"{KEY_FILE}: no digests of files, expected one of each")
    return dict(found)


def _require_place(folder: Path) -> None:
    """Refuse, before hours of work, where no result can take the place of what is there in one step."""
    if folder.is_mount():
        raise StageError(f"{folder}: something is mounted there, so that no result can take its place in one step; "
                         f"mount {folder.parent} instead")
    if not can_be_replaced(folder):
        raise StageError(f"{folder}: cannot be renamed, as a folder of a container's image, so that no result can take "
                         "its place in one step; copy it (cp -a), remove it, and give the copy its name")


def say(line: str) -> None:
    """Progress, for people, one line: stderr, so that stdout stays the result."""
    print(printable(line), file=sys.stderr, flush=True)


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
