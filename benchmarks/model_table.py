"""``python -m benchmarks.model_table``: what each family of networks costs, into docs/models.md. Knows no accuracy."""

from __future__ import annotations

import argparse
import gc
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from deploy.export.checkpoint_to_onnx import simplify, to_onnx
from deploy.runtime.onnx_session import OnnxSession
from deploy.runtime.session import Session
from edgekp.atomic import write_file
from edgekp.cli import Parser, add_debug, run
from edgekp.preprocess import InputSpec
from edgekp.recipe import CodecChoice, Data, Model, Recipe
from edgekp.recipe_train import Train
from edgekp.sample import Float
from eval.latency_worker import THREADS, pin_to_one_core
from eval.machine_stamp import Stamp, movement, read_machine, take_reading
from train.models import build, spec_of
from train.models.cost import count_macs, count_parameters

OPSET = 17
WARM_UPS, ROUNDS = 5, 50
QUIET = 0.95  # share of the time that a thread runs on a machine with nothing else to do
HEATMAP, BODY = CodecChoice("heatmap"), InputSpec((256, 192))
COLUMNS = ("backbone", "neck", "head", "codec", "keypoints", "input", "parameters", "MACs", "p50")


@dataclass(frozen=True)
class Family:
    """A row of the table: what a recipe says of a network."""

    model: Model
    codec: CodecChoice = HEATMAP
    input: InputSpec = BODY
    skeleton: str = "coco17"

    @property
    def recipe(self) -> Recipe:
        return Recipe("model_table", Data(self.skeleton), self.input, self.codec, self.model,
                      Train(epochs=1))


def face(backbone: str, head: str = "", **options: object) -> Family:
    """68 keypoints of a face of 112 x 112 pixels, as coordinates."""
    return Family(Model(backbone, head, options), CodecChoice("regression"), InputSpec((112, 112)), "ibug68")


LIGHT = {"channels": 64}  # of a neck that costs no more than its backbone
FAMILIES = (  # a row of the table each
    *(Family(Model("hrnet_lite", options={"width": width, "block": block}))
      for block in ("dense", "depthwise") for width in (16, 24, 32, 48)),
    Family(Model("hrnet_lite"), CodecChoice("offset")),
    Family(Model("hrnet_lite"), CodecChoice("udp_combined")),
    Family(Model("hrnet_lite"), CodecChoice("simcc")),
    Family(Model("hrnet_lite", "rtmcc"), CodecChoice("simcc")),
    Family(Model("hrnet_lite", "cpm")),
    Family(Model("hrnet_lite"), CodecChoice("openpose"), InputSpec((368, 368), padding=1.0)),
    *(Family(Model("lite_hrnet", options={"depth": depth})) for depth in (10, 18, 30)),
    Family(Model("mobilenet_v3", options={"size": "small"}, neck="deconv", neck_options=LIGHT)),
    Family(Model("mobilenet_v3", options={"size": "small", "activation": "relu"}, neck="deconv", neck_options=LIGHT)),
    Family(Model("mobilenet_v3", options={"size": "large"}, neck="deconv", neck_options=LIGHT)),
    Family(Model("mobilenet_v3", options={"size": "large"}, neck="fpn", neck_options=LIGHT)),
    Family(Model("shufflenet_v2", options={"width": 1.0}, neck="deconv", neck_options=LIGHT)),
    Family(Model("shufflenet_v2", options={"width": 1.0}, neck="fpn", neck_options=LIGHT)),
    Family(Model("resnet", options={"depth": 18}, neck="fpn"), CodecChoice("offset")),
    Family(Model("resnet", options={"depth": 50}, neck="deconv")),
    *(Family(Model("unet", options={"width": width})) for width in (16, 64)),
    *(face("mobilefacenet", head, activation=activation)
      for activation in ("relu", "prelu") for head in ("integral", "gdconv")),
    face("mobilefacenet", "multi_scale"),
    *(face("pfld", "multi_scale", width=width) for width in (1.0, 0.25)),
)


@dataclass(frozen=True)
class Turns:
    """Median CPU time of a call of each session, and the share of the wall time in which the thread ran."""

    p50_ms: list[float]
    running: float


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m benchmarks.model_table", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="timed calls of each network (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs/models.md"))
    add_debug(parser)
    return run(_measure, parser, argv)


def _measure(arguments: argparse.Namespace) -> int:
    core = pin_to_one_core()
    torch.set_num_threads(THREADS)
    sessions = []
    for family in FAMILIES:
        sessions.append(session_of(family))
        print(" ".join(cells(family)), file=sys.stderr)
    stamp = Stamp(**asdict(read_machine()), runtime=f"onnxruntime {onnxruntime.__version__}", threads=THREADS,
                  pinned_core=core)
    before = take_reading()
    turns = time_in_turn(sessions, [inputs_of(family) for family in FAMILIES], arguments.rounds)
    moved = movement((before, take_reading()))
    write_file(arguments.out, page(stamp, turns, arguments.rounds, moved).encode())
    return 0


def session_of(family: Family) -> OnnxSession:
    """The network with fresh weights, exported and opened as a device would."""
    torch.manual_seed(0)
    contract = family.recipe.contract()
    model = simplify(to_onnx(build(spec_of(family.recipe)), contract, OPSET))
    return OnnxSession(model.SerializeToString(), contract.outputs, family.model.backbone, THREADS)


def inputs_of(family: Family) -> Float:
    """Noise (1, 3, h, w)."""
    return np.random.default_rng(0).standard_normal((1, 3, *family.input.input_hw), dtype=np.float32)


def time_in_turn(sessions: Sequence[Session], inputs: Sequence[Float], rounds: int) -> Turns:
    """Call every session once a round, so that a busy moment is one for all of them."""
    wall_ns = np.zeros((WARM_UPS + rounds, len(sessions)))
    cpu_ns = np.zeros_like(wall_ns)
    gc.collect()
    gc.disable()
    try:
        for turn in range(len(wall_ns)):
            for i, (session, one) in enumerate(zip(sessions, inputs, strict=True)):
                wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
                session.infer(one)
                cpu_ns[turn, i] = time.thread_time_ns() - cpu
                wall_ns[turn, i] = time.perf_counter_ns() - wall
    finally:
        gc.enable()
    wall_ns, cpu_ns = wall_ns[WARM_UPS:], cpu_ns[WARM_UPS:]
    return Turns((np.median(cpu_ns, axis=0) / 1e6).tolist(), float(cpu_ns.sum() / wall_ns.sum()))


def cells(family: Family) -> list[str]:
    """What a row says before the latency; counted on a network without memory."""
    spec, model = spec_of(family.recipe), family.model
    with torch.device("meta"):
        net = build(spec)
        parameters, macs = count_parameters(net), count_macs(net, spec.input_hw)
    h, w = family.input.input_hw
    return [_part(model.backbone, model.options), _part(model.neck, model.neck_options),
            _part(spec.head, model.head_options), _part(family.codec.name, family.codec.options),
            str(spec.keypoints), f"{h} x {w}", f"{parameters / 1e6:.2f} M", f"{macs / 1e6:,.0f} M"]


def _part(name: str, options: dict[str, object]) -> str:
    """A part and the options that are chosen."""
    chosen = ", ".join(f"{key} {value}" for key, value in options.items())
    return f"`{name}` {chosen}".strip() if name else ""


def page(stamp: Stamp, turns: Turns, rounds: int, moved: str | None) -> str:
    """The whole document."""
    machine = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in stamp.spelled().items()
                        if value != "unknown")
    rows = [[*cells(family), f"{p50_ms:.2f} ms"] for family, p50_ms in zip(FAMILIES, turns.p50_ms, strict=True)]
    lines = [f"| {' | '.join(row)} |" for row in (COLUMNS, ["---"] * len(COLUMNS), *rows)]
    doubts = [f"**The machine was busy: the measuring thread ran {turns.running:.0%} of the time, so compare rows with "
              "each other only.**"] if turns.running < QUIET else []
    doubts += [f"**{moved}**"] if moved else []
    return "\n\n".join([HEADER, f"Measured with PyTorch {torch.__version__} and Python {platform.python_version()} on: "
                        f"{machine}. {rounds} rounds after {WARM_UPS} to warm up.", *doubts, "\n".join(lines)]) + "\n"


HEADER = """# What the networks cost

Generated by this command, which measures anew; to add a row, add a line to `FAMILIES` in
[benchmarks/model_table.py](../benchmarks/model_table.py).

```bash
python -m benchmarks.model_table
```

Each row is a combination that a recipe can name in `[model]` and `[codec]`; options that are not told are the
defaults. Parameters and multiply-accumulates (MACs: convolutions and linear layers) are counted. The latency is the p50
of the CPU time of one `infer` call of the exported float network with one instance, on one thread, all networks called
in turn in one process. The weights are fresh: this table says nothing about accuracy, which is in
[results.md](results.md)."""


if __name__ == "__main__":
    sys.exit(main())
