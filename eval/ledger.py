"""Ledgers: a latency measured on a board and judged elsewhere, for boards that have no place in CI.

The file holds the evidence, the digests of both artifacts, and two seals: a SHA-256, by which damage shows, and with a
key an HMAC, by which it shows that someone who has the key wrote it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgekp.artifact import open_artifact, require_same_contract
from edgekp.atomic import sha256
from edgekp.errors import EdgekpError, RecipeError, unknown_name
from edgekp.json_file import read_labels
from edgekp.manifest import MANIFEST
from edgekp.strict import strict
from eval.latency_evidence import Evidence
from eval.latency_gate import LIMIT, LOOKS, judge_evidence
from eval.machine_stamp import Stamp
from eval.verdict import Verdict, write_json

FORMAT = "edgekp-latency-ledger"
FORMAT_VERSION = 1
KEY_VARIABLE = "EDGEKP_LEDGER_KEY"
LARGEST_LOG_RATIO = 100.0  # nothing real is e100 times slower; beyond e709 there is no number
SEALS = ("sha256", "hmac_sha256")


@dataclass(frozen=True)
class Ledger:
    """A ledger whose seals hold, of the artifacts that it was read for.

    Attributes:
        signature: ``signed``, ``unsigned``, or that it could not be checked.
    """

    path: Path
    evidence: Evidence
    signature: str


def write_ledger(path: Path, evidence: Evidence, baseline: Path, candidate: Path, key: bytes | None) -> None:
    """Record what was measured of two artifact folders; without a key it is sealed, but not signed."""
    body = {"format": FORMAT, "version": FORMAT_VERSION, "baseline_sha256": sha256(baseline / MANIFEST),
            "candidate_sha256": sha256(candidate / MANIFEST), "evidence": _without_none(asdict(evidence))}
    write_json(path, body | dict(zip(SEALS, seals_of(body, key), strict=True)))


def read_ledger(path: Path, baseline: Path, candidate: Path, key: bytes | None = None,
                required: Mapping[str, str] | None = None) -> Ledger:
    """Read a ledger back.

    Args:
        required: fields of the stamp that must have these values, as ``Machine.spelled`` writes them.

    Raises:
        EdgekpError: No ledger, changed since it was written, not signed with the key that is given, of other
            artifacts, of another machine than required, or with numbers missing.
    """
    document = read_labels(path)
    if not isinstance(document, dict) or (document.get("format"), document.get("version")) != (FORMAT, FORMAT_VERSION):
        raise EdgekpError(f"{path}: not an {FORMAT} of version {FORMAT_VERSION}; record it again")
    body = {name: value for name, value in document.items() if name not in SEALS}
    signature = checked_signature(path, body, document, key)
    _require_artifacts(path, body, baseline, candidate)
    evidence = _evidence(path, body.get("evidence"))
    _require_stamp(path, evidence.stamp, required or {})
    return Ledger(path, evidence, signature)


def judge_ledger(ledger: Ledger, limit: float = LIMIT, subject: str = "") -> Verdict:
    """The verdict of the latency gate on recorded evidence; it says where that comes from."""
    verdict = judge_evidence(ledger.evidence, limit, subject)
    stamp = ledger.evidence.stamp
    return replace(verdict, reason=f"{verdict.reason}; recorded on {stamp.board or stamp.processor} "
                                   f"({ledger.path.name}, {ledger.signature})")


def ledger_key(file: Path | None = None) -> bytes | None:
    """The key that signs ledgers: the file's content, else the environment's EDGEKP_LEDGER_KEY; None without either.

    Raises:
        EdgekpError: The file cannot be read, or the key is empty: a secret that is not set must not pass as no key.
    """
    if file is None and KEY_VARIABLE not in os.environ:
        return None
    try:
        key = os.environ[KEY_VARIABLE].encode() if file is None else file.read_bytes()
    except OSError as error:
        raise EdgekpError(f"{file}: cannot be read ({error.strerror})") from error
    if not key.strip():
        raise EdgekpError(f"{KEY_VARIABLE if file is None else file}: is empty, expected the key of ledgers")
    return key.strip()


def seals_of(body: dict[str, Any], key: bytes | None) -> tuple[str, str | None]:
    """Digest and signature, over one spelling of the JSON; ValueError where a number is NaN or infinite."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    signature = None if key is None else hmac.new(key, text, hashlib.sha256).hexdigest()
    return hashlib.sha256(text).hexdigest(), signature


def checked_signature(path: Path, body: dict[str, Any], seals: dict[str, Any], key: bytes | None) -> str:
    """What can be said of the signature; refuses a ledger whose seals do not hold."""
    try:
        digest, signature = seals_of(body, key)
    except ValueError:
        raise EdgekpError(f"{path}: a number is NaN or infinite; record it again") from None
    stated, signed = (str(seals.get(name) or "") for name in SEALS)
    if digest != stated:
        raise EdgekpError(f"{path}: was changed or damaged since it was written (sha256 {digest[:12]}…, it states "
                          f"'{stated[:12]}…'); record it again")
    if signature is None:
        return "signature not checked: no key here" if signed else "unsigned"
    if not signed:
        raise EdgekpError(f"{path}: is not signed, though a key is given; record it again with {KEY_VARIABLE}")
    if not hmac.compare_digest(signature.encode(), signed.encode()):
        raise EdgekpError(f"{path}: its signature is not of this key; record it again, or give the key it was "
                          "signed with")
    return "signed"


def _require_artifacts(path: Path, body: dict[str, Any], baseline: Path, candidate: Path) -> None:
    require_same_contract(open_artifact(baseline), open_artifact(candidate))
    for who, folder in (("baseline", baseline), ("candidate", candidate)):
        found, recorded = sha256(folder / MANIFEST), str(body.get(f"{who}_sha256"))
        if found != recorded:
            raise EdgekpError(f"{path}: was recorded for another {who} (manifest {recorded[:12]}…, that of {folder} is "
                              f"{found[:12]}…); record it again on the board")


def _evidence(path: Path, table: Any) -> Evidence:
    try:
        evidence = strict(Evidence, table, "evidence")
    except RecipeError as error:
        raise EdgekpError(f"{path}: {error}; record it again") from error
    if len(evidence.processes) not in LOOKS:
        raise EdgekpError(f"{path}: holds {len(evidence.processes)} processes, expected "
                          f"{', '.join(map(str, LOOKS))}; record it again")
    largest = max(abs(value) for process in evidence.processes for value in (process.log_ratio, process.self_log_ratio))
    if largest > LARGEST_LOG_RATIO:
        raise EdgekpError(f"{path}: holds a ratio of exp({largest:.4g}), expected at most exp({LARGEST_LOG_RATIO:g}); "
                          "record it again")
    return evidence


def _require_stamp(path: Path, stamp: Stamp, required: Mapping[str, str]) -> None:
    found = stamp.spelled()
    for name in required:
        if name not in found:
            raise EdgekpError(unknown_name("field of a stamp", name, list(found)))
    unlike = [f"{name}: {found[name]} recorded, {value} required" for name, value in required.items()
              if found[name] != value]
    if unlike:
        raise EdgekpError(f"{path}: was recorded on another machine than required: {'; '.join(unlike)}; "
                          "record it there, or change --require-stamp")


def _without_none(value: Any) -> Any:
    """A value that is not known is left out, as recipes do it."""
    if isinstance(value, dict):
        return {name: _without_none(entry) for name, entry in value.items() if entry is not None}
    return [_without_none(entry) for entry in value] if isinstance(value, (list, tuple)) else value
