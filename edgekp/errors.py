"""The errors that a user can mend: one line each, saying what was found, what was expected and what to do."""

from difflib import get_close_matches


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
