"""Files by their digests: those of a folder, those that are no longer what they were, and what became of a list.

Lists are kept under their own digest, so that a later run, which knows that digest, can say which file changed.
"""

from __future__ import annotations

import json
import os
from hashlib import sha256 as new_sha256
from pathlib import Path
from typing import Any

from edgekp.atomic import sha256, write_file
from edgekp.contract import brief
from edgekp.user_caches import user_caches


def cache_folder() -> Path:
    """EDGEKP_CACHE, or where this user's caches are, and in it the folder of data sets."""
    own = os.environ.get("EDGEKP_CACHE")
    return (Path(own) if own else user_caches() / "edgekp") / "data"


def files_below(folder: Path, leave_out: str) -> dict[str, str]:
    """Digest of each file below a folder by its path therein; ``leave_out`` is the end of names that do not count."""
    return {path.relative_to(folder).as_posix(): sha256(path) for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.name.endswith(leave_out)}


def first_changed(folder: Path, digests: Any) -> str | None:
    """The first file that is missing or has another digest than the given one; None where all are as they were."""
    if not isinstance(digests, dict):
        return "the list of its files"
    return next((name for name, digest in digests.items() if _digest_or_none(folder / name) != digest), None)


def keep(digests: dict[str, str]) -> str:
    """The digest of a list of files, with the list put where ``change`` finds it; OSError where that is impossible."""
    data = _text(digests)
    digest = new_sha256(data).hexdigest()
    path = _place(digest)
    if not path.is_file():
        write_file(path, data)
    return digest


def digest_of(digests: dict[str, str]) -> str:
    """The digest of a list of files: of names and contents, in any order."""
    return new_sha256(_text(digests)).hexdigest()


def change(old: Any, new: Any) -> str:
    """From one value of a stage's key to another, in a few words; of two known lists the files that differ."""
    before, after = _kept(old), _kept(new)
    if not before or not after:
        return f"{brief(old)} -> {brief(new)}"
    differing = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return f"{len(differing)} of {len(before.keys() | after.keys())} differ, first {differing[0]}"


def _digest_or_none(path: Path) -> str | None:
    try:
        return sha256(path)
    except (OSError, ValueError):
        return None


def _text(digests: dict[str, str]) -> bytes:
    return json.dumps(digests, sort_keys=True, separators=(",", ":")).encode()


def _place(digest: str) -> Path:
    return cache_folder() / f"{digest}.list"


def _kept(digest: Any) -> dict[str, str] | None:
    """The list with this digest, if there is one, undamaged."""
    if not (isinstance(digest, str) and len(digest) == 64 and digest.isalnum()):
        return None
    try:
        data = _place(digest).read_bytes()
    except OSError:
        return None
    return dict(json.loads(data)) if new_sha256(data).hexdigest() == digest else None
