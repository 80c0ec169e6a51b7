"""Results of stages that no stage has made: the files that a test wrote, with the stage.json that belongs to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgekp.changed_files import files_below
from edgekp.stage import ADDED_LATER, KEY_FILE


def leave_stage(folder: Path, **entry: Any) -> Path:
    """Write the stage.json of a result, with the digests of all its files where ``entry`` does not name them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / KEY_FILE).unlink(missing_ok=True)
    key = {"stage": folder.name, "version": 1, "settings": {}, "inputs": {}, "files": files_below(folder, ADDED_LATER)}
    (folder / KEY_FILE).write_text(json.dumps(key | entry), encoding="utf-8")
    return folder


def accept_changes(folder: Path) -> None:
    """As if the stage itself had written the files that are there now."""
    entry = json.loads((folder / KEY_FILE).read_text(encoding="utf-8"))
    del entry["files"]
    leave_stage(folder, **entry)
