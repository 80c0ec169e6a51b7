"""engine.json beside a TensorRT engine; its seal is made to hold."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from deploy.runtime.trt.stamp import (
    ENGINE,
    STAMP,
    VERSION,
    Machine,
    Request,
    Stamp,
    checked_timing_cache,
    fitting_engine,
    why_stale,
)
from edgekp.artifact import open_artifact
from edgekp.atomic import sha256
from fuzz.drawn import artifact_in, as_json, resealed
from fuzz.target import Read, Target

MACHINE = Machine("10.3.0", "Orin", "8.7")
REQUEST = Request("model.onnx", "fp16", False, 1, None, None)
ONNX, BUILT = "0" * 64, "1" * 64  # in their places the digests of the folder's files
SEED = Stamp(VERSION, MACHINE, REQUEST, ONNX, BUILT, 9, 1 << 20, 12.5, {"conv1": "fp16"}, BUILT)


def reader(folder: Path) -> Read:
    own = artifact_in(folder / "own")
    (own / ENGINE).write_bytes(b"no engine")
    artifact = open_artifact(own)
    digests = {ONNX: artifact.files["model.onnx"], BUILT: sha256(own / ENGINE)}

    def read(data: bytes) -> None:
        for placeholder, digest in digests.items():
            data = data.replace(placeholder.encode(), digest.encode())
        (own / STAMP).write_bytes(resealed(data))
        why_stale(artifact, MACHINE, REQUEST)
        checked_timing_cache(own)
        fitting_engine(artifact, MACHINE)
    return read


TARGET = Target((as_json(asdict(SEED)),), reader, (b'"request"', b'"machine"', b'"layers"', b"null", b"1e999"))
