"""The command ``python -m eval``: run, score, gate, latency and report."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekp.artifact import Artifact, require_same_contract, verify_artifact
from edgekp.cli import Parser, add_debug, recipe_of, run, stage_parser
from edgekp.errors import ArtifactError, DataError, EdgekpError
from edgekp.json_file import read_json
from edgekp.recipe import Eval, Gate
from edgekp.run_lock import locked
from edgekp.stage import say
from eval import latency_command, waterfall_command
from eval.accuracy_gate import judge_accuracy
from eval.evaluate import evaluate_run
from eval.ground_truth import read_ground_truth, skeleton_of
from eval.latency_gate import judge_latency
from eval.metrics import METRICS, interval_of, measurable, measure, measure_keypoints, metrics_for
from eval.predict import predict
from eval.recipe_gate import gate_run
from eval.results import Scored, lay_beside, read_results
from eval.table import metrics_table, run_table
from eval.verdict import (
    EXIT_CODES,
    Verdict,
    append_line,
    as_json,
    as_junit,
    as_lines,
    as_markdown,
    worst,
    write_json,
    write_output,
)

BACKENDS = {kind: kind for kind in ("onnx", "tflite", "torchscript", "openvino")} | {"trt": "onnx"}  # by what they run


def _run(arguments: argparse.Namespace) -> int:
    """Metrics of one artifact, or of all models of a recipe's run."""
    if arguments.artifact is None:
        _refuse(arguments, ("data", "images", "backend", "json", "predictions"), "belongs to --artifact")
        recipe = recipe_of(arguments)
        with locked(recipe.run_folder):
            folder = evaluate_run(recipe, arguments.target, arguments.force)
        print(run_table(read_json(folder / "metrics.json")))
        return 0
    artifact = verify_artifact(arguments.artifact)
    if BACKENDS.get(arguments.backend, artifact.kind) != artifact.kind:
        raise ArtifactError(f"{artifact.folder}: holds a '{artifact.kind}', --backend asks for '{arguments.backend}'; "
                            "leave it out")
    truth = read_ground_truth(_needed(arguments.data, "--data"), artifact.contract.skeleton, arguments.images)
    results = predict([artifact], truth, arguments.backend)[0]
    if not results:
        raise ArtifactError(f"{artifact.folder}: nothing was found, or every output is NaN or infinite; there is "
                            "nothing to measure")
    if arguments.predictions:
        write_output(arguments.predictions, json.dumps(results, allow_nan=False) + "\n")
    facts = {"artifact": str(arguments.artifact), "data": str(arguments.data), "predicted": len(results),
             "size_bytes": artifact.size_bytes}
    scored = lay_beside(truth, results)
    names = measurable(scored, metrics_for(truth.skeleton))
    metrics, facts = measure(scored, names), facts | _evidence(scored, names[0])
    return _show(metrics, len(truth.labels.instances), facts, arguments.json)


def _score(arguments: argparse.Namespace) -> int:
    """Metrics of anyone's predictions."""
    skeleton = skeleton_of(arguments.gt, arguments.skeleton)
    truth = read_ground_truth(arguments.gt, skeleton)
    scored = lay_beside(truth, read_results(arguments.results, truth))
    missing = int((~scored.found).sum())
    if missing:
        say(f"eval: {missing} of {len(scored.found)} instances have no prediction")
    names = (arguments.metric,) if arguments.metric else measurable(scored, metrics_for(skeleton))
    facts = {"gt": str(arguments.gt), "results": str(arguments.results), "skeleton": skeleton.name,
             "predicted": len(scored.found) - missing, **_evidence(scored, names[0])}
    return _show(measure(scored, names), len(scored.found), facts, arguments.json)


def _evidence(scored: Scored, name: str) -> dict[str, Any]:
    """How sure the main number is, and what each keypoint is worth."""
    return {"interval": interval_of(scored, name), "keypoints": measure_keypoints(scored)}


def _gate(arguments: argparse.Namespace) -> int:
    """Verdict on a candidate, or on all optimized models of a recipe's run."""
    if arguments.baseline is None and arguments.candidate is None:
        _refuse(arguments, ("data", "images", "metric", "budget", "latency_limit"), "belongs to --baseline and "
                "--candidate; for a recipe use --set eval.metric=..., gate.budget=... and gate.latency_ratio=...")
        recipe = recipe_of(arguments)
        with locked(recipe.run_folder):
            verdicts = gate_run(recipe, arguments.target, arguments.force)
        return _conclude(verdicts, arguments)
    baseline, candidate = _pair(arguments)
    skeleton = baseline.contract.skeleton
    truth = read_ground_truth(_needed(arguments.data, "--data"), skeleton, arguments.images)
    first, second = predict([baseline, candidate], truth)
    metric = arguments.metric or metrics_for(skeleton)[0]
    verdicts = [judge_accuracy(truth, first, second, Eval(metric=metric), Gate(budget=arguments.budget))]
    if arguments.latency_limit is not None:
        verdicts.append(judge_latency(arguments.baseline, arguments.candidate, arguments.latency_limit))
    return _conclude(verdicts, arguments)


def _report(arguments: argparse.Namespace) -> int:
    """One HTML file for a run."""
    from eval.html_report import write_report
    write_report(arguments.run, arguments.out)
    print(arguments.out)
    return 0


def _card(arguments: argparse.Namespace) -> int:
    """One Markdown file: what the final model is, how to feed it, what was measured, what nobody knows of it."""
    from eval.model_card import write_model_card
    write_model_card(arguments.run, arguments.out)
    print(arguments.out)
    return 0


def _pair(arguments: argparse.Namespace) -> tuple[Artifact, Artifact]:
    baseline = verify_artifact(_needed(arguments.baseline, "--baseline"))
    candidate = verify_artifact(_needed(arguments.candidate, "--candidate"))
    require_same_contract(baseline, candidate)
    return baseline, candidate


def _needed(path: Path | None, option: str) -> Path:
    if path is None:
        raise DataError(f"{option} is missing; name it too")
    return path


def _refuse(arguments: argparse.Namespace, options: tuple[str, ...], why: str) -> None:
    """An option that would have no effect is an error, not silence."""
    for option in options:
        if getattr(arguments, option) is not None:
            raise EdgekpError(f"--{option.replace('_', '-')} {why}")


def _show(metrics: dict[str, float], instances: int, facts: dict[str, Any], path: Path | None) -> int:
    print(metrics_table(metrics))
    if path:
        write_json(path, {"metrics": metrics, "instances": instances, **facts})
    return 0


def _conclude(verdicts: list[Verdict], arguments: argparse.Namespace) -> int:
    """Print and store verdicts; the exit code of the worst."""
    print(as_lines(verdicts))
    print(f"verdict: {worst(verdicts)}")
    if arguments.json:
        write_json(arguments.json, as_json(verdicts))
    if arguments.junit:
        write_output(arguments.junit, as_junit(verdicts))
    if arguments.markdown:
        write_output(arguments.markdown, as_markdown(verdicts))
    if arguments.history:
        append_line(arguments.history, verdicts)
    return EXIT_CODES[worst(verdicts)]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m eval", description="Measure models and judge them.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands)
    _add_score(commands)
    _add_gate(commands)
    latency_command.add_to(commands)
    waterfall_command.add_to(commands)
    report = commands.add_parser("report", help="one HTML file for a run", description=_report.__doc__)
    report.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run's folder, runs/R")
    report.add_argument("--out", type=Path, required=True, metavar="FILE", help="the HTML file to write")
    add_debug(report)
    report.set_defaults(command=_report)
    card = commands.add_parser("card", help="the model card of a run's final model", description=_card.__doc__)
    card.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run's folder, runs/R")
    card.add_argument("--out", type=Path, required=True, metavar="FILE", help="the Markdown file to write")
    add_debug(card)
    card.set_defaults(command=_card)
    return parser


def _add_run(commands: Any) -> None:
    parser = _stage_command(commands, "run", "metrics of an artifact, or of all models of a recipe's run", _run)
    parser.add_argument("--artifact", type=Path, metavar="DIR", help="measure this artifact instead of a recipe's run")
    _add_data(parser)
    parser.add_argument("--backend", choices=BACKENDS, help="refuse an artifact for another runtime; trt runs "
                        "the engine beside an ONNX model")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the metrics")
    parser.add_argument("--predictions", type=Path, metavar="FILE", help="write the predictions, COCO results format")


def _add_score(commands: Any) -> None:
    parser = commands.add_parser("score", help="metrics of anyone's predictions", description=_score.__doc__)
    parser.add_argument("--gt", type=Path, required=True, metavar="COCO.json", help="the annotations")
    parser.add_argument("--results", type=Path, required=True, metavar="FILE", help="predictions, COCO results format")
    parser.add_argument("--metric", choices=list(METRICS), help="default: all that make sense for the skeleton")
    parser.add_argument("--skeleton", metavar="NAME|FILE.toml", help="default: by the keypoints of the annotations")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the metrics")
    add_debug(parser)
    parser.set_defaults(command=_score)


def _add_gate(commands: Any) -> None:
    parser = _stage_command(commands, "gate", "exit 0 pass, 1 fail, 2 could not run, 3 undecided", _gate)
    parser.add_argument("--baseline", type=Path, metavar="DIR", help="artifact to hold the candidate against")
    parser.add_argument("--candidate", type=Path, metavar="DIR", help="artifact to judge, instead of a recipe's run")
    _add_data(parser)
    parser.add_argument("--metric", choices=list(METRICS), help="default: nme for faces, oks_ap for others")
    parser.add_argument("--budget", type=float, help="allowed loss: points of AP or PCK as a fraction (0.02 is 2 "
                        "points), for nme a share of the baseline's. Default 0.02; from 2000 instances on 1 %% of the "
                        "baseline's AP or PCK")
    parser.add_argument("--latency-limit", type=float, metavar="RATIO",
                        help="also judge the latency, on this machine: the largest allowed ratio, such as 1.05")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the verdict with its numbers")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the verdict as JUnit XML")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the verdict as a Markdown table")
    parser.add_argument("--history", type=Path, metavar="FILE.jsonl", help="append the verdict as one line; for people "
                        "to plot, no gate reads it")


def _stage_command(commands: Any, name: str, summary: str, command: Any) -> argparse.ArgumentParser:
    """A command that also knows a recipe and what stages have in common."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=command.__doc__, parents=[stage_parser(name, "")], conflict_handler="resolve")
    parser.add_argument("--target", default="cpu", help="whose exported models are meant (default: %(default)s)")
    parser.set_defaults(command=command)
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, metavar="COCO.json", help="the annotations to measure on")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of the images (default: that of --data)")


def main(argv: Sequence[str] | None = None) -> int:
    return run(lambda arguments: int(arguments.command(arguments)), _parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
