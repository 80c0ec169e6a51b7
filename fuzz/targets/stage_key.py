"""stage.json of an earlier run."""

from __future__ import annotations

from pathlib import Path

from edgekp.stage import KEY_FILE, Key
from fuzz.drawn import as_json
from fuzz.target import Read, Target

KEY = Key("train", 1, {"train": {"epochs": 3, "lr": 1e-3}, "data": ["a", 1]}, {"labels": "0" * 64})


def reader(folder: Path) -> Read:
    path = folder / "train" / KEY_FILE
    path.parent.mkdir()

    def read(data: bytes) -> None:
        path.write_bytes(data)
        KEY.reasons_to_run(path.parent)
    return read


TARGET = Target((as_json(KEY.to_json()),), reader, (b'"settings"', b'"inputs"', b"[", b"{", b"1e999", b"NaN"))
