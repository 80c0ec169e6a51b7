"""The errors that a user can mend: one line each, saying what was found, what was expected and what to do."""

from __future__ import annotations

import errno
from difflib import get_close_matches

REMEDIES = {
    errno.EACCES: "change its permissions or name another place",
    errno.EPERM: "change its permissions or name another place",
    errno.EROFS: "name a place that can be written",
    errno.ENOSPC: "free some space or name another disk",
    errno.EDQUOT: "free some space or name another disk",
    errno.ENAMETOOLONG: "name it shorter",
    errno.ENOENT: "check the name",
    errno.EEXIST: "name another place",
    errno.ENOTDIR: "expected a folder on the way; check the name",
    errno.EISDIR: "expected a file; check the name",
    errno.ENOTEMPTY: "name another place",
    errno.EMFILE: "raise the limit of open files: ulimit -n 4096",
    errno.EIO: "the disk or its connection is failing; copy what can be read and name another place",
}


class EdgekpError(Exception):
    """Root of all errors that end a command with exit code 2 and one line instead of a traceback."""


class RecipeError(EdgekpError):
    """A recipe or an override that does not say something the stages understand."""


class DataError(EdgekpError):
    """Annotations or images that cannot be used as they are."""


class ArtifactError(EdgekpError):
    """A checkpoint or artifact folder that is damaged, or does not fit what is about to run."""


class StageError(EdgekpError):
    """A stage that lacks what an earlier stage should have left."""


class CameraError(EdgekpError):
    """A camera, stream or video that cannot be opened, or that stays away."""


class DeviceError(EdgekpError):
    """A GPU, or the software that drives it, that is missing or cannot do what is asked."""


class EngineError(EdgekpError):
    """An engine that is missing, damaged, or was built for another machine or another model."""


class TrainingError(EdgekpError):
    """A training run that cannot go on, such as a loss that is no longer a number."""


def unknown_name(kind: str, name: str, known: list[str]) -> str:
    """The sentence for a name that is not in a list, with the nearest known one first."""
    nearest = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean '{nearest[0]}'? " if nearest else ""
    return f"no {kind} '{name}'; {hint}known: {', '.join(known)}"


def is_utf8(name: str) -> bool:
    """Whether a name is text; that of a file on Linux may be any bytes, on which OpenCV 5.0 crashes."""
    return name.encode("utf-8", "ignore").decode() == name


def of_the_system(error: OSError) -> str:
    """The sentence for what the operating system refused: the file, as far as known, the reason, the remedy."""
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    reason = error.strerror or str(error) or type(error).__name__
    remedy = REMEDIES.get(error.errno or 0, "mend that and run it again")
    return f"{' -> '.join(names) + ': ' if names else ''}{reason}; {remedy}"
