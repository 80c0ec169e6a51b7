"""Single bits of model files, turned over: checkpoint, ONNX, TFLite and engine, each with the files beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.faults.judging import verdict_of
from benchmarks.faults.outcome import Outcome, tally

Use = Callable[[], dict[str, Any]]  # open the files and give all that depends on them, by name


@dataclass(frozen=True)
class Target:
    """Files that are opened together, and how."""

    files: Sequence[Path]
    use: Use


def checkpoint_bit_flips(tries: int, seed: int) -> Outcome:
    with checkpoint() as folder:
        return _flipped("checkpoint", Target(sorted(folder.iterdir()), lambda: _weights(folder)), tries, seed)


def onnx_bit_flips(tries: int, seed: int) -> Outcome:
    with exported("cpu") as folder:
        return _flipped("ONNX", Target(sorted(folder.iterdir()), lambda: _outputs(folder)), tries, seed)


def tflite_bit_flips(tries: int, seed: int) -> Outcome:
    with exported("tflite") as folder:
        return _flipped("TFLite", Target(sorted(folder.iterdir()), lambda: _outputs(folder)), tries, seed)


def engine_bit_flips(tries: int, seed: int) -> Outcome:
    """With TensorRT as it is faked in the tests: what is refused is refused before TensorRT sees a byte."""
    from deploy.runtime.trt.builder import build_engine
    from deploy.runtime.trt.engine import open_engine
    from deploy.runtime.trt.stamp import ENGINE, STAMP
    from edgekp.artifact import open_artifact
    from tests.deploy.trt.fake_tensorrt import fake_tensorrt
    from tests.deploy.trt.host_driver import HostDriver

    with exported("jetson") as folder:
        artifact, driver, trt = open_artifact(folder), HostDriver(), fake_tensorrt("10.3.0")
        build_engine(artifact, driver.gpu, trt=trt)
        files = [folder / ENGINE, folder / STAMP]
        return _flipped("engine", Target(files, lambda: {"most": open_engine(artifact, driver, trt).most}), tries, seed)


def usual_checkpoint(tries: int, seed: int) -> Outcome:
    """torch.save, and torch.load with weights_only=True."""
    import torch

    def use() -> dict[str, Any]:
        found = torch.load(path, weights_only=True)
        return {name: tensor.numpy() for name, tensor in found.items()}

    with checkpoint() as folder:
        path = folder / "checkpoint.pt"
        torch.save({name: torch.from_numpy(array) for name, array in _weights(folder).items() if name != "spec"}, path)
        return _flipped("torch.load", Target([path], use), tries, seed, refused=(Exception,))


@contextmanager
def checkpoint() -> Iterator[Path]:
    """Folder of the checkpoint of a tiny network."""
    import torch

    from tests import tiny
    from train.models.checkpoint import save_checkpoint

    torch.manual_seed(0)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "checkpoint"
        folder.mkdir()
        save_checkpoint(folder, *tiny.network(tiny.recipe()))
        yield folder


@contextmanager
def exported(target: str) -> Iterator[Path]:
    """Folder of its export."""
    from deploy.export.checkpoint_to_artifact import export_checkpoint
    from deploy.export.target import target_named
    from train.models.checkpoint import load_checkpoint

    with checkpoint() as folder:
        export_checkpoint(load_checkpoint(folder), folder.with_name("export"), target_named(target))
        yield folder.with_name("export")


def _flipped(what: str, target: Target, tries: int, seed: int, refused: tuple[type[Exception], ...] = ()) -> Outcome:
    """Each try turns over one bit of one file, most of them of the largest, opens them, and puts it right again.

    Args:
        refused: beside ours, errors that count as a refusal.
    """
    rng, expected = np.random.default_rng(seed), target.use()
    sizes = np.array([path.stat().st_size for path in target.files])
    share = 0.5 * sizes / sizes.sum() + 0.5 / len(sizes)  # none so small that it is never hit
    verdicts = []
    for _ in range(tries):
        path = target.files[rng.choice(len(sizes), p=share)]
        data = path.read_bytes()
        byte, bit = int(rng.integers(len(data))), int(rng.integers(8))
        path.write_bytes(data[:byte] + bytes([data[byte] ^ 1 << bit]) + data[byte + 1:])
        verdicts.append(verdict_of(f"{what}, {path.name}, bit {bit} of byte {byte}", target.use,
                                   lambda found: _are_equal(found, expected), refused=refused))
        path.write_bytes(data)
    return tally(what, verdicts)


def _are_equal(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Bit for bit."""
    return found.keys() == expected.keys() and all(
        np.asarray(found[name]).tobytes() == np.asarray(value).tobytes() for name, value in expected.items())


def _weights(folder: Path) -> dict[str, Any]:
    from train.models.checkpoint import load_checkpoint

    found = load_checkpoint(folder)
    return {name: tensor.numpy() for name, tensor in found.net.state_dict().items()} | {
        "spec": f"{found.spec} {found.contract}"}


def _outputs(folder: Path) -> dict[str, Any]:
    """What the model says of one input, and what its manifest says of it."""
    from deploy.runtime.session import open_session
    from edgekp.artifact import verify_artifact

    artifact = verify_artifact(folder)
    session = open_session(artifact)
    found = session.infer(np.random.default_rng(0).normal(size=(1, 3, *artifact.contract.input.input_hw)))
    session.close()
    return {**found, "contract": f"{artifact.contract} {artifact.model}"}
