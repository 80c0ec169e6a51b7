"""How far every exported file puts keypoints from where its network in torch puts them, on crops of real pictures.

    python -m benchmarks.export_parity --recipe RECIPE --checkpoint DIR

The crops are the first of each of the recipe's validation sets. A distance is that between decoded keypoints, in pixels
of the network's input; ``beyond`` counts those past the bound of the file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from deploy.export.checkpoint_to_artifact import export_checkpoint
from deploy.export.embed import DECODE, KEYPOINTS_NAME, PREPROCESS
from deploy.export.target import FOLDER, target_named
from deploy.export.verify import embedded_session, float16_session
from deploy.runtime.session import open_session
from edgekp.artifact import open_artifact
from edgekp.cli import Parser, add_debug, run
from edgekp.coco import read_coco
from edgekp.contract import Contract
from edgekp.data_folder import locate
from edgekp.preprocess import crop, crop_affine, normalise, read_image
from edgekp.recipe_file import load_recipe
from edgekp.sample import Float, Image, Instance
from train.models.checkpoint import Checkpoint, load_checkpoint

CROPS = 64
FP16, EMBEDDED = "model_fp16.onnx", "model_embedded.onnx"
BOUNDS_PX = {"cpu": 0.01, "jetson": 0.01, FP16: 0.2, EMBEDDED: 0.01, "openvino": 0.01, "tflite": 0.05,
             "tflite-fp16": 0.2, "torchscript": 0.01}  # of float models; tflite-dynamic rounds as it likes


def crops_of(instances: list[Instance], contract: Contract) -> list[Image]:
    """(h, w, 3) RGB: what the network is shown, before it is normalised."""
    spec = contract.input
    return [crop(read_image(instance.image.path), crop_affine(instance.bbox_xywh, spec.input_hw, spec.padding,
                                                              align=spec.align), spec) for instance in instances]


def moved_px(checkpoint: Checkpoint, crops: list[Image], folder: Path) -> Iterator[tuple[str, Float]]:
    """(N, K) distances from the keypoints of the checkpoint in torch, by what each target calls its file."""
    contract = checkpoint.contract
    assert isinstance(contract, Contract)
    inputs = np.stack([normalise(one, contract.input) for one in crops])
    expected_xy = contract.codec.decode(open_session(checkpoint.artifact).infer(inputs))[0]
    for name, keypoints_xy in _keypoints(checkpoint, contract, crops, inputs, folder):
        yield name, np.asarray(np.linalg.norm(keypoints_xy - expected_xy, axis=-1))


def _keypoints(checkpoint: Checkpoint, contract: Contract, crops: list[Image], inputs: Float,
               folder: Path) -> Iterator[tuple[str, Float]]:
    decode: Callable[[dict[str, Float]], tuple[Float, Float]] = contract.codec.decode
    for name in targets_here():
        target = target_named(name)
        export_checkpoint(checkpoint, folder / name, target, embed=(PREPROCESS, DECODE) if target.float16 else ())
        artifact = open_artifact(folder / name)
        yield name, decode(open_session(artifact).infer(inputs))[0]
        if target.float16:
            yield FP16, decode(float16_session(artifact).infer(inputs))[0]
            crops_bgr = np.stack(crops)[..., ::-1]
            yield EMBEDDED, embedded_session(artifact).infer(crops_bgr)[KEYPOINTS_NAME][..., :2]


def targets_here() -> list[str]:
    """All targets whose runtime is installed; only OpenVINO and LiteRT are extras."""
    missing = {"openvino": find_spec("openvino") is None, "tflite": find_spec("ai_edge_litert") is None}
    return [path.stem for path in sorted(FOLDER.glob("*.toml"))
            if not missing.get(target_named(path.stem).format, False)]


def main() -> int:
    parser = Parser(prog="python -m benchmarks.export_parity", description=__doc__)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="DIR", help="a float one")
    add_debug(parser)
    return run(_compare, parser)


def _compare(arguments: argparse.Namespace) -> int:
    checkpoint = load_checkpoint(arguments.checkpoint)
    assert isinstance(checkpoint.contract, Contract)
    sets = load_recipe(arguments.recipe).data.val
    instances = [one for data in sets for one in read_coco(
        locate(data.labels), checkpoint.contract.skeleton).instances[:CROPS // len(sets)]]
    crops = crops_of(instances, checkpoint.contract)
    print(f"{len(crops)} crops, {len(crops) * len(checkpoint.contract.skeleton)} keypoints\n")
    print("| file | median | p99 | largest | bound | beyond |\n|---|---|---|---|---|---|")
    with TemporaryDirectory() as folder:
        for name, px in moved_px(checkpoint, crops, Path(folder)):
            bound = BOUNDS_PX.get(name)
            beyond = "" if bound is None else f"{int((px > bound).sum())}"
            print(f"| {name} | {np.median(px):.5f} | {np.quantile(px, 0.99):.5f} | {px.max():.5f} | {bound or ''} | "
                  f"{beyond} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
