"""The kernels' source: every barrier is needed, and NVIDIA's compiler takes it without spilling registers."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from deploy.runtime.gpu.decode_plan import plan_of
from edgekp.codecs import Heatmap, Integral, OpenPose, SimCC
from edgekp.codecs.openpose import LIMBS
from tests.deploy.cuda.emulated import COMPILER, KERNELS, Emulator, compile_kernels
from tests.deploy.cuda.kernel_signatures import kernel_signatures
from tests.deploy.cuda.test_scene_kernels import TO_INPUT, K, scene

NVCC = shutil.which("nvcc")
BARRIER = "__syncthreads();"
BARRIERS = [(path.name, number) for path in sorted(KERNELS.glob("*.cuh"))
            for number in range(path.read_text().count(BARRIER))]


def answers(gpu: Emulator) -> list[np.ndarray]:
    """What the kernels say of a few maps; the order of the threads must not matter to any of it."""
    rng = np.random.default_rng(0)
    codecs = Heatmap((64, 48)), Integral((64, 48)), SimCC((64, 48))
    affines = np.tile(np.eye(2, 3), (2, 1, 1))
    keypoints_xy = rng.uniform((12, 12), (36, 52), (2, 4, 2))
    found = []
    for codec in codecs:
        target = codec.encode(keypoints_xy, np.full((2, 4), 2))
        plan = plan_of(codec)
        assert plan
        found.append(gpu.decode(plan, [target.arrays[name] for name in codec.outputs], affines))
    for people in (2, 3, 4):
        heatmaps, pafs = scene(rng, people)
        pafs += rng.normal(0, 0.2, pafs.shape).astype(np.float32)  # so that it matters which limb comes first
        found += gpu.people(heatmaps, pafs, LIMBS, K, TO_INPUT, most=8)
    return found


def without_barrier(folder: Path, file: str, number: int) -> Path:
    """A copy of the kernels in which that barrier is missing."""
    changed = folder / "kernels"
    shutil.copytree(KERNELS, changed)
    source = (changed / file).read_text()
    at = [match.start() for match in re.finditer(re.escape(BARRIER), source)][number]
    (changed / file).write_text(source[:at] + source[at + len(BARRIER):])
    return changed


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="needs g++ to compile the kernels for the host")
@pytest.mark.parametrize(("file", "number"), BARRIERS)
def test_a_missing_barrier_is_noticed(file: str, number: int, tmp_path: Path, library: object) -> None:
    right = answers(Emulator(library))  # type: ignore[arg-type]
    damaged = compile_kernels(tmp_path, without_barrier(tmp_path, file, number))
    for seed in range(1, 9):
        try:
            wrong = answers(Emulator(damaged, seed))
        except RuntimeError:
            return  # threads waited at different places
        if not all(a.shape == b.shape and np.array_equal(a, b) for a, b in zip(right, wrong, strict=True)):
            return
    pytest.fail("the same answers without it")


@pytest.mark.slow
@pytest.mark.skipif(NVCC is None, reason="needs NVIDIA's compiler, nvcc")
@pytest.mark.parametrize("architecture", ["sm_87", "sm_90", "sm_110"])  # Orin, Hopper, Thor
def test_nvcc_compiles_the_kernels_without_spills(architecture: str, tmp_path: Path) -> None:
    assert NVCC
    command = [NVCC, f"-arch={architecture}", "-std=c++17", "-O3", "--resource-usage", "-Werror", "all-warnings",
               "-cubin", "-o", str(tmp_path / "keypoints.cubin"), str(KERNELS / "keypoints.cu")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", told)
    assert len(spills) == len(kernel_signatures())
    assert set(spills) == {("0", "0")}


def test_the_scene_kernels_know_the_decoders_numbers() -> None:
    """Constants that exist twice, in numpy and in CUDA."""
    from edgekp.codecs import openpose_decode as decoder

    source = (KERNELS / "scene.cuh").read_text()
    for name in ("LOWEST_PEAK", "MOST_PEAKS", "SAMPLES", "LOWEST_SAMPLE", "LOWEST_MEAN", "FEWEST_KEYPOINTS"):
        stated = re.search(rf"\b{name} = ([0-9.]+)", source)
        assert stated
        assert float(stated[1]) == getattr(decoder, name)
    fewest = re.search(r"FEWEST_GOOD_SAMPLES = (\d+)", source)
    assert fewest
    assert int(fewest[1]) == int(decoder.LEAST_SHARE * decoder.SAMPLES) + 1
    assert OpenPose((64, 64)).outputs == ("heatmaps", "pafs")
