"""The linter at the door of an export: an error stops it, warnings are said, one line a rule."""

from __future__ import annotations

import onnx

from deploy.export.qdq_lint.rules import lint
from edgekp.errors import ArtifactError
from edgekp.stage import say

RUNTIMES = {"int8": "tensorrt", "uint8": "onnxruntime"}  # who reads which spelling of the grid


def require_fit(model: onnx.ModelProto, spelling: str) -> None:
    """Refuse a graph that the runtime of a spelling refuses.

    Raises:
        ArtifactError: The first finding that is an error.
    """
    by_rule = {finding.rule: finding for finding in reversed(lint(model, (RUNTIMES[spelling],)))}
    for finding in by_rule.values():
        text = f"{finding.rule} at {finding.node}: {finding.why}"
        if finding.severity == "error":
            raise ArtifactError(f"{RUNTIMES[spelling]} would not run this export as it is meant: {text}; "
                                "change [[optimize]] or choose another target")
        say(f"export: {RUNTIMES[spelling]}: {text}")
