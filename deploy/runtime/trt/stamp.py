"""engine.json: what an engine was built from, where and how, so that one that does not fit is never opened.

Knows no TensorRT: it compares what was written when the engine was built with what is here now.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, is_dataclass
from hashlib import sha256
from pathlib import Path
from types import UnionType
from typing import Any, get_origin, get_type_hints

from edgekp.artifact import Artifact
from edgekp.atomic import write_file
from edgekp.errors import ArtifactError, EngineError
from edgekp.json_file import MANIFEST_BYTES, parse_json
from edgekp.plain_file import read_plain
from edgekp.sealed_json import sealed, unsealed
from edgekp.signature import require_signature, sign

ENGINE, STAMP, TIMING_CACHE = "model.engine", "engine.json", "timing.cache"
VERSION = 2  # raised by hand when the builder's code changes what it builds


@dataclass(frozen=True)
class Machine:
    """What an engine is tied to: it runs with this very version on this very kind of GPU.

    Attributes:
        capability: of the GPU, such as ``8.7``.
    """

    tensorrt: str
    gpu: str
    capability: str


@dataclass(frozen=True)
class Request:
    """What was asked for, with nothing left open.

    Attributes:
        onnx: the file that is built.
        max_batch: the largest batch; the smallest is 1, or the same for a file with a fixed one.
        dla: number of the accelerator core, None for the GPU.
        workspace_mb: at most so much scratch memory for one layer, None for all that there is.
    """

    onnx: str
    precision: str
    strongly_typed: bool
    max_batch: int
    dla: int | None
    workspace_mb: int | None


@dataclass(frozen=True)
class Stamp:
    """The content of engine.json.

    Attributes:
        memory_bytes: what running the engine takes beside its weights.
        layers: what each layer of the engine computes in, by name; empty where TensorRT does not tell.
        timing_cache_sha256: of the file that makes the next build faster; empty where there is none.
    """

    version: int
    machine: Machine
    request: Request
    onnx_sha256: str
    engine_sha256: str
    size_bytes: int
    memory_bytes: int
    build_seconds: float
    layers: dict[str, str]
    timing_cache_sha256: str

    def write(self, folder: Path) -> None:
        """Put engine.json there, signed if there is a key."""
        data = sealed(asdict(self))
        write_file(folder / STAMP, data)
        sign(folder / STAMP, data)


def read_stamp(folder: Path) -> Stamp:
    """The stamp of the engine in a folder.

    Raises:
        EngineError: There is none, it is not one, was changed, or is not signed though a key is given; in a few words.
    """
    path = folder / STAMP
    try:
        data = read_plain(path, MANIFEST_BYTES)
        require_signature(path, data)
        found = parse_json(data, STAMP, ArtifactError)
    except FileNotFoundError:
        raise EngineError("no engine yet") from None
    except (OSError, ArtifactError) as error:
        raise EngineError(f"{STAMP} cannot be read ({error})") from None
    version = found.get("version") if isinstance(found, dict) else None
    if version != VERSION:
        raise EngineError(f"version: {version!r:.40} -> {VERSION}")
    try:
        stamp: Stamp = _typed(Stamp, unsealed(found))
    except (ValueError, TypeError) as error:
        raise EngineError(f"{STAMP} cannot be read ({error})") from None
    return stamp


def fitting_engine(artifact: Artifact, machine: Machine, request: Request | None = None) -> tuple[Stamp, bytes]:
    """The engine beside a model and its stamp; any ``request`` is right where none is given.

    Raises:
        EngineError: What does not fit, in a few words.
    """
    stamp = read_stamp(artifact.folder)
    differences = _differences(stamp.machine, machine)
    digest = artifact.files.get(stamp.request.onnx, "none")
    if digest != stamp.onnx_sha256:
        differences.append(f"{stamp.request.onnx}: sha256 {stamp.onnx_sha256[:12]} -> {digest[:12]}")
    if request is not None:
        differences += _differences(stamp.request, request)
    if differences:
        raise EngineError("; ".join(differences))
    return stamp, _checked_bytes(artifact.folder / ENGINE, stamp.engine_sha256)


def why_stale(artifact: Artifact, machine: Machine, request: Request | None = None) -> str | None:
    """Why the engine beside a model must be built, None where it fits."""
    try:
        fitting_engine(artifact, machine, request)
    except EngineError as error:
        return str(error)
    return None


def _typed(kind: Any, found: Any) -> Any:
    """A dataclass from what JSON holds, or a TypeError that names the first field that is not what it should be."""
    if not isinstance(found, dict):
        raise TypeError(f"{found!r}, expected the fields of a {kind.__name__}")
    values = {}
    for name, hint in get_type_hints(kind).items():
        value = _typed(hint, found.get(name)) if is_dataclass(hint) else found.get(name)
        if not isinstance(value, hint if isinstance(hint, UnionType) else get_origin(hint) or hint):
            raise TypeError(f"{name}: {value!r}, expected {getattr(hint, '__name__', hint)}")
        values[name] = value
    return kind(**values)


def _differences(stamped: Any, here: Any) -> list[str]:
    pairs = {field.name: (getattr(stamped, field.name), getattr(here, field.name)) for field in fields(stamped)}
    return [f"{name}: {old} -> {new}" for name, (old, new) in pairs.items() if old != new]


def checked_timing_cache(folder: Path) -> bytes:
    """The timing cache that the stamp in a folder names; empty where there is none, or another."""
    try:
        digest = read_stamp(folder).timing_cache_sha256
        return _checked_bytes(folder / TIMING_CACHE, digest) if digest else b""
    except EngineError:
        return b""


def _checked_bytes(path: Path, digest: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EngineError(f"{path.name} cannot be read ({error.strerror})") from None
    found = sha256(data).hexdigest()
    if found != digest:
        raise EngineError(f"{path.name}: sha256 {found[:12]} of {len(data)} bytes, {STAMP} says {digest[:12]}")
    return data
