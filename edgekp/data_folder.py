"""Where data sets lie: the folder that label paths in recipes are relative to."""

from __future__ import annotations

import os
from pathlib import Path

from edgekp.errors import DataError


def data_root() -> Path:
    """The folder that label paths are relative to."""
    return Path(os.environ.get("EDGEKP_DATA", "../shared/data"))


def locate(name: str, hint: str = "") -> Path:
    """The file or folder of a label set, or a DataError that says where to put it."""
    path = data_root() / name
    if not path.exists():
        advice = f" {hint}" if hint else ""
        raise DataError(f"{path}: not there; set EDGEKP_DATA to the folder that holds '{name}'.{advice}")
    return path
