"""``python -m benchmarks.quantizers``: our INT8 against ONNX Runtime's and ModelOpt's, of one float checkpoint.

Every quantizer gets the same training images to calibrate with, and is measured on the same validation boxes, by the
same metrics, in turn in one process. Ours is held against each of the others on the same images, by the gate's paired
bootstrap. Nothing here knows how any of them works inside.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import torch

from deploy.export.checkpoint_to_artifact import MODEL_FILE
from deploy.export.checkpoint_to_onnx import INPUT_NAME, simplify, to_onnx
from edgekp.artifact import Artifact, open_artifact, write_artifact
from edgekp.atomic import write_file
from edgekp.cli import Parser, add_debug, run
from edgekp.errors import EdgekpError
from edgekp.recipe import Recipe
from edgekp.recipe_file import load_recipe
from edgekp.recipe_steps import Quantize
from edgekp.sample import Float
from edgekp.stage import say
from eval.bootstrap import Interval, paired_interval
from eval.latency import machine, time_in_fresh_process
from eval.metrics import Metric, metric_chosen
from eval.predict import predict
from eval.results import Scored, lay_beside
from optimize.calibration_set import calibration_inputs, choose_instances
from optimize.judge import Judge
from optimize.modelopt_backend import is_installed
from optimize.ptq import quantize_network
from train.dataset import read_pools
from train.models.checkpoint import Checkpoint, load_checkpoint
from train.models.quantized import fold

PACKAGES = ("torch", "onnxruntime", "nvidia-modelopt")
FLOAT, OURS = "float", "edgekp"
SEED = 0


@dataclass(frozen=True)
class Subject:
    """What every quantizer is given.

    Attributes:
        model: the float network as an ONNX file, as we export it.
        inputs: (N, 3, h, w) training crops to calibrate with.
        scratch: a folder for what a quantizer leaves beside its result.
    """

    checkpoint: Checkpoint
    model: Path
    inputs: Float
    scratch: Path
    opset: int


@dataclass(frozen=True)
class Row:
    """One quantizer: ``metric`` on each validation set, and what its file costs.

    Attributes:
        cpu_ms: the median of a call with one instance on one thread; other work on the machine does not count.
        ours_better: by how much ours is better on each set; empty for ours. Below zero as a whole: worse.
    """

    quantizer: str
    metric: dict[str, float]
    size_bytes: int
    cpu_ms: float
    ours_better: dict[str, Interval]


class Feed:
    """Calibration images one by one, as ONNX Runtime wants them."""

    def __init__(self, inputs: Float) -> None:
        self.left: Iterator[Float] = iter(inputs[:, None])

    def get_next(self) -> dict[str, Float] | None:
        image = next(self.left, None)
        return None if image is None else {INPUT_NAME: image}


def onnxruntime_defaults(subject: Subject, out: Path) -> None:
    """``quantize_static`` as it comes: weights per tensor."""
    _quantize_static(subject, out, per_channel=False)


def onnxruntime_per_channel(subject: Subject, out: Path) -> None:
    _quantize_static(subject, out, per_channel=True)


def _quantize_static(subject: Subject, out: Path, *, per_channel: bool) -> None:
    from onnxruntime.quantization import quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process
    prepared = subject.scratch / "prepared.onnx"
    quant_pre_process(subject.model, prepared, skip_symbolic_shape=True)  # which fails at a Resize of a free batch
    quantize_static(prepared, out, Feed(subject.inputs), per_channel=per_channel)


def modelopt_onnx(subject: Subject, out: Path) -> None:
    """``modelopt.onnx.quantization.quantize`` as it comes, on the CPU; what stays in float becomes fp16."""
    _modelopt_onnx(subject, out, "fp16")


def modelopt_onnx_fp32(subject: Subject, out: Path) -> None:
    """The same with the rest in fp32, because a CPU computes fp16 by converting it."""
    _modelopt_onnx(subject, out, "fp32")


def _modelopt_onnx(subject: Subject, out: Path, rest: str) -> None:
    from modelopt.onnx.quantization import quantize
    model = subject.scratch / "float.onnx"  # it writes beside its input
    write_file(model, subject.model.read_bytes())
    quantize(str(model), calibration_data=subject.inputs, calibration_eps=["cpu"], output_path=str(out),
             high_precision_dtype=rest, log_level="ERROR")


def modelopt_torch(subject: Subject, out: Path) -> None:
    """``mtq.quantize`` with INT8_DEFAULT_CFG on the network with its batch norms folded, exported through torch."""
    import modelopt.torch.quantization as mtq
    net, inputs = fold(subject.checkpoint.net), torch.from_numpy(subject.inputs)

    def look(network: torch.nn.Module) -> None:
        with torch.no_grad():
            for batch in inputs.split(32):
                network(batch)

    on_grid = mtq.quantize(net, mtq.INT8_DEFAULT_CFG, look)
    write_file(out, simplify(to_onnx(on_grid, subject.checkpoint.contract, subject.opset)).SerializeToString())


FOREIGN: dict[str, Callable[[Subject, Path], None]] = {
    "onnxruntime quantize_static": onnxruntime_defaults, "onnxruntime, per_channel": onnxruntime_per_channel,
    "modelopt.onnx": modelopt_onnx, "modelopt.onnx, fp32 rest": modelopt_onnx_fp32,
    "modelopt.torch INT8_DEFAULT_CFG": modelopt_torch}


def foreign_artifact(name: str, subject: Subject, baseline: Artifact) -> Artifact:
    """A quantizer's file in an artifact folder, so that it is opened, shown and decoded like ours."""
    folder = subject.scratch / f"artifact {name}"
    folder.mkdir()
    with redirect_stdout(sys.stderr):  # results alone go to stdout
        FOREIGN[name](subject, folder / MODEL_FILE)
    onnx.checker.check_model(str(folder / MODEL_FILE))
    write_artifact(folder, baseline.kind, baseline.contract, baseline.model | {"precision": "int8"})
    return open_artifact(folder)


def measure(judge: Judge, artifacts: dict[str, Artifact]) -> list[Row]:
    """Accuracy of all on every validation set, each image read once, then the latency of all in turn."""
    models, metric = list(artifacts.values()), metric_chosen(judge.recipe.eval)
    scored = {data: [lay_beside(truth, results) for results in predict(models, truth)]
              for data, truth in judge.truths.items()}
    cpu_ms = np.median(time_in_fresh_process([artifact.folder for artifact in models], SEED).cpu_ms, axis=1).tolist()
    ours = list(artifacts).index(OURS)
    rows = []
    for i, (name, artifact) in enumerate(artifacts.items()):
        values = {data: judged(metric, found[i]) for data, found in scored.items()}
        better = {data: better_by(metric, found[ours], found[i]) for data, found in scored.items() if i != ours}
        rows.append(Row(name, values, artifact.size_bytes, cpu_ms[i], better))
    return rows


def judged(metric: Metric, scored: Scored) -> float:
    """The number that the gate goes by, on all images."""
    return float(metric.weighted(scored)(np.ones((1, len(scored.truth.image_ids))))[0])


def better_by(metric: Metric, ours: Scored, theirs: Scored) -> Interval:
    """What a change from ours to theirs would lose, in points or as a share of ours, as the gate counts it."""
    return paired_interval(metric.weighted(ours), metric.weighted(theirs), metric.loss, len(ours.truth.image_ids))


def table(rows: Sequence[Row], metric: str) -> str:
    """Markdown; brackets hold the one-sided 95 % bounds of ours minus theirs."""
    sets = list(rows[0].metric)
    head = ["", *(text for data in sets for text in (f"{metric} {data}", "ours minus theirs")), "KB", "CPU time"]
    cells = [[row.quantizer, *(text for data in sets for text in (f"{row.metric[data]:.4f}", _spelled(row, data))),
              f"{row.size_bytes / 1000:,.0f}", f"{row.cpu_ms:.2f} ms"] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *cells))


def _spelled(row: Row, data: str) -> str:
    found = row.ours_better.get(data)
    return f"{found.point:+.4f} [{found.lower:+.4f}, {found.upper:+.4f}]" if found else ""


def outcome(rows: Sequence[Row], data: str) -> str:
    """Where ours is worse than another by more than chance: in one of twenty comparisons it seems so by chance."""
    worse = [row.quantizer for row in rows if data in row.ours_better and row.ours_better[data].upper < 0]
    return f"{data}: {OURS} is worse by more than chance than {', '.join(worse) if worse else 'none of them'}"


def compare(recipe_path: Path, checkpoint: Path, overrides: Sequence[str], names: Sequence[str],
            images: int) -> tuple[list[Row], str]:
    """All rows, the float network's first, and what they were measured with."""
    recipe, parent = load_recipe(recipe_path, overrides), load_checkpoint(checkpoint)
    instances = tuple(one for pool in read_pools(recipe, "train") for one in pool.instances)
    inputs = calibration_inputs(choose_instances(instances, images), parent.contract)
    with tempfile.TemporaryDirectory() as scratch:
        judge = Judge(recipe, Path(scratch))
        artifacts = {FLOAT: judge.export_folder(FLOAT, checkpoint)}
        subject = Subject(parent, artifacts[FLOAT].model_path, inputs.numpy(), Path(scratch), recipe.export.opset)
        found = quantize_network(load_checkpoint(checkpoint), _own_step(recipe), inputs)
        artifacts[OURS] = judge.export(OURS, found.net, found.spec, parent.contract)
        for name in names:
            say(f"quantizers: {name}")
            artifacts[name] = foreign_artifact(name, subject, artifacts[FLOAT])
        rows = measure(judge, artifacts)
    packages = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return rows, f"{len(inputs)} calibration images; {machine()}; Python {platform.python_version()}, {packages}"


def _own_step(recipe: Recipe) -> Quantize:
    """The recipe's, or that of the defaults."""
    return next((step for step in recipe.optimize if isinstance(step, Quantize)), Quantize("quantize"))


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m benchmarks.quantizers", description=__doc__)
    parser.add_argument("--recipe", type=Path, required=True, help="whose training and validation images are used")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="SECTION.KEY=VALUE",
                        help="change one setting of the recipe; may be repeated")
    parser.add_argument("--checkpoint", type=Path, required=True, help="the float network, such as runs/R/train")
    parser.add_argument("--images", type=int, default=256, help="to calibrate with (default: %(default)s)")
    parser.add_argument("--only", nargs="*", choices=list(FOREIGN), default=list(FOREIGN),
                        help="which other quantizers (default: all)")
    parser.add_argument("--json", type=Path, default=Path("runs/bench-quantizers.json"))
    add_debug(parser)

    def command(arguments: argparse.Namespace) -> int:
        if not is_installed():
            raise EdgekpError("ModelOpt is not installed; run: pip install -e '.[modelopt]'")
        rows, measured = compare(arguments.recipe, arguments.checkpoint, arguments.overrides, arguments.only,
                                 arguments.images)
        print(table(rows, metric_chosen(load_recipe(arguments.recipe, arguments.overrides).eval).judged))
        print(measured)
        print("\n".join(outcome(rows, data) for data in rows[0].metric))
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        write_file(arguments.json, json.dumps({"measured": measured, "rows": [asdict(row) for row in rows]},
                                              indent=1) + "\n")
        return 0

    return run(command, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
