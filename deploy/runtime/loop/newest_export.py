"""The artifact that a command runs when none is named: the newest export of a kind below ``runs/``."""

from __future__ import annotations

from pathlib import Path

from edgekp.errors import ArtifactError, DataError
from edgekp.json_file import MANIFEST_BYTES, read_json
from edgekp.manifest import MANIFEST

RUNS = Path("runs")


def newest_export(target: str, runs: Path = RUNS) -> Path:
    """Folder of the newest export for a target, or for one that is named after it (``tflite-fp16`` for ``tflite``).

    Raises:
        ArtifactError: There is none.
    """
    folders = [path.parent for path in runs.glob(f"*/export/{target}*/{MANIFEST}") if _is_for(path, target)]
    if not folders:
        raise ArtifactError(f"{runs}/*/export/{target}: no artifact there; name one with --artifact, or make one with: "
                            f"make train optimize export TARGET={target}")
    return max(folders, key=lambda folder: (folder / MANIFEST).stat().st_mtime_ns)


def _is_for(manifest: Path, target: str) -> bool:
    """Whether an export is for that target; a damaged manifest is refused when it is opened, not here."""
    try:
        found = read_json(manifest, MANIFEST_BYTES)["model"]["target"]
    except (DataError, KeyError, TypeError):
        return False
    return found == target or str(found).startswith(f"{target}-")
