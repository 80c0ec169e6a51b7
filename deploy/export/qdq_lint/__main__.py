"""``python -m deploy.export.qdq_lint MODEL.onnx``: what a target minds about a quantized graph, and its mend."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from deploy.export.qdq_lint.at_export import RUNTIMES
from deploy.export.qdq_lint.foreign_model import graph_of, read_model
from deploy.export.qdq_lint.mend import mended
from deploy.export.qdq_lint.rules import RULES, TARGETS, Finding, lint
from deploy.export.target import target_named
from edgekp.artifact import open_artifact
from edgekp.atomic import write_file
from edgekp.cli import Parser, add_debug, run
from edgekp.errors import RecipeError
from edgekp.printable import printable
from edgekp.trial import survive


def report(finding: Finding) -> str:
    state = "fixed" if finding.fixed else finding.severity
    return printable(f"{state:8}{finding.rule:23}{finding.node} ({finding.tensor}): {finding.why}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m deploy.export.qdq_lint", description="Find what a target refuses, "
                                     "runs slowly or computes inexactly in a quantized ONNX graph.")
    parser.add_argument("model", type=Path, help="an .onnx file, or the folder of an export")
    parser.add_argument("--target", choices=TARGETS, help="who will run it (default: that of the export's folder, else "
                        "all)")
    parser.add_argument("--fix", type=Path, metavar="OUT.onnx", help="write the model with all mended that can be")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the findings for machines")
    parser.add_argument("--ignore", action="append", default=[], choices=list(RULES), metavar="RULE",
                        help="leave out a rule; may be repeated")
    add_debug(parser)
    return run(_command, parser, argv)


def _command(arguments: argparse.Namespace) -> int:
    path, target = arguments.model, arguments.target
    if path.is_dir():
        artifact = open_artifact(path, "onnx")
        path = artifact.model_path
        target = target or RUNTIMES[target_named(str(artifact.model["target"])).spelling]
    model = read_model(path)
    if arguments.fix is None:
        with graph_of(path):
            findings = lint(model, (target,) if target else TARGETS, arguments.ignore)
    elif target is None:
        raise RecipeError(f"--fix needs --target, one of {', '.join(TARGETS)}: what mends a graph for one can harm "
                          "another")
    else:
        survive("deploy.export.qdq_lint.trial", model.SerializeToString(), str(path))
        with graph_of(path):
            result, findings = mended(model, target, arguments.ignore)
        write_file(arguments.fix, result.SerializeToString())
    for finding in findings:
        print(report(finding))
    if arguments.json:
        write_file(arguments.json, json.dumps([asdict(finding) for finding in findings], indent=1) + "\n")
    return int(any(finding.severity == "error" and not finding.fixed for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
