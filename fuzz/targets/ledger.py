"""Ledgers of latencies; their seals are made to hold, as anybody can make them."""

from __future__ import annotations

import json
from pathlib import Path

from edgekp.atomic import sha256
from edgekp.manifest import MANIFEST
from eval.ledger import FORMAT, FORMAT_VERSION, SEALS, judge_ledger, read_ledger, seals_of
from fuzz.drawn import artifact_in, as_json
from fuzz.target import Read, Target

MS = {"p50": 4.0, "p90": 4.5, "p99": 5.0}
COST = {"wall_ms": MS, "cpu_ms": MS, "size_bytes": 8, "peak_memory_bytes": 1 << 20}
READING = {"clock_mhz": 1500.0, "temperature_c": 45.0}
PROCESSES = [{"log_ratio": -0.1 + 0.01 * number, "self_log_ratio": 0.001 * number, "readings": [READING, READING]}
             for number in range(10)]
STAMP = {"processor": "a core", "cores": 6, "system": "Linux 5.15", "runtime": "onnxruntime 1.24", "threads": 1}
EVIDENCE = {"stamp": STAMP, "clock": "cpu", "baseline": COST, "candidate": COST, "processes": PROCESSES}
BODY = {"format": FORMAT, "version": FORMAT_VERSION, "baseline_sha256": "0" * 64, "candidate_sha256": "1" * 64,
        "evidence": EVIDENCE}


def reader(folder: Path) -> Read:
    baseline, candidate = artifact_in(folder / "baseline"), artifact_in(folder / "candidate")
    digests = {"0" * 64: sha256(baseline / MANIFEST), "1" * 64: sha256(candidate / MANIFEST)}
    path = folder / "ledger.json"

    def read(data: bytes) -> None:
        for placeholder, digest in digests.items():
            data = data.replace(placeholder.encode(), digest.encode())
        path.write_bytes(_sealed(data))
        judge_ledger(read_ledger(path, baseline, candidate, b"key", {"board": "unknown"}))
    return read


def _sealed(data: bytes) -> bytes:
    try:
        body = json.loads(data)
        return json.dumps(body | dict(zip(SEALS, seals_of(body, b"key"), strict=True))).encode()
    except (ValueError, RecursionError, TypeError):  # no JSON object: as it is
        return data


TARGET = Target((as_json(BODY), as_json(BODY | {"evidence": EVIDENCE | {"machine_changes": ["a"]}})), reader,
                (b'"processes"', b'"stamp"', b'"readings"', b'"gpu"', b"1e999", b"null"))
