"""The CUDA kernels, compiled by g++ and run on the host: one function per kernel, numpy arrays in and out."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deploy.runtime.gpu.decode_plan import DecodePlan
from edgekp.preprocess import InputSpec
from edgekp.sample import Float, Image

KERNELS = Path("deploy/runtime/gpu/cuda")
HERE = Path("tests/deploy/cuda")
COMPILER = shutil.which("g++")
SUFFIX = {np.dtype(np.float32): "f32", np.dtype(np.float16): "f16", np.dtype(np.int8): "i8"}
MOST_PEAKS = 32
UNTOUCHED = 7777.0  # in every output before a kernel runs


def compile_kernels(folder: Path, kernels: Path = KERNELS) -> ctypes.CDLL:
    """A library of the kernels in a folder, for this machine."""
    assert COMPILER
    library = folder / "kernels.so"
    subprocess.run([COMPILER, "-std=c++17", "-O1", "-shared", "-fPIC", "-Wall", "-Werror", "-Wno-unknown-pragmas",
                    "-I", str(kernels), "-I", str(HERE), "-o", str(library), str(HERE / "launches.cpp")], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.emulator_error.restype = ctypes.c_char_p
    return loaded


class Normalisation(ctypes.Structure):
    """As in crop.cuh."""

    _fields_ = [("mean", ctypes.c_float * 3), ("deviation", ctypes.c_float * 3), ("pad", ctypes.c_float * 3),
                ("source", ctypes.c_int * 3)]


@dataclass(frozen=True)
class Emulator:
    """Kernels that run on the host; ``seed`` decides in which order the threads of a block go on after a barrier."""

    library: ctypes.CDLL
    seed: int = 0

    def decode(self, plan: DecodePlan, outputs: list[np.ndarray[Any, Any]], crop_to_image: Float,
               scale: float = 1.0) -> Float:
        """Keypoints (N, K, 3) as x, y and score, of outputs in the codec's order, stored as value / scale."""
        first = outputs[0]
        n, k = first.shape[:2]
        keypoints = np.full((n, k, 3), UNTOUCHED, np.float32)
        sizes = {"decode_simcc": lambda output: [output.shape[2]], "decode_coordinates": lambda output: []}
        arguments: list[Any] = []
        for output in outputs:
            arguments += [output, scale, *sizes.get(plan.kernel, lambda output: [])(output)]
        if plan.kernel in ("decode_heatmaps", "decode_offsets", "decode_means"):
            arguments += first.shape[2:]
        arguments.append(plan.to_image(crop_to_image))
        if plan.kernel == "decode_heatmaps":
            arguments += [plan.refine, plan.taps, plan.reach]
        if plan.kernel == "decode_means":
            arguments.append(plan.sharpest)
        self._run(f"{plan.kernel.replace('decode', 'run')}_{SUFFIX[first.dtype]}", n, k, *arguments, keypoints)
        return keypoints

    def people(self, heatmaps: Float, pafs: Float, limbs: np.ndarray[Any, Any], keypoints: int, to_image: Float,
               most: int) -> list[Float]:
        """Of each scene the people (P, K, 3) in image pixels, the best first."""
        n, channels, h, w = heatmaps.shape
        peaks = np.full((n, keypoints, MOST_PEAKS, 3), UNTOUCHED, np.float32)
        counts = np.full((n, keypoints), -1, np.int32)
        self._run("run_scene_peaks", n, keypoints, heatmaps, channels, h, w, peaks, counts)
        limbs = np.ascontiguousarray(limbs, np.int32)
        scores = np.full((n, len(limbs), MOST_PEAKS, MOST_PEAKS), UNTOUCHED, np.float32)
        self._run("run_scene_limbs", n, len(limbs), pafs, h, w, peaks, counts, keypoints, limbs, scores)
        people = np.full((n, most, keypoints, 3), UNTOUCHED, np.float32)
        found = np.full(n, -1, np.int32)
        self._run("run_people", n, peaks, counts, keypoints, scores, limbs, len(limbs), to_image.astype(np.float32),
                  most, people, found)
        return [rows[:count] for rows, count in zip(people, found, strict=True)]

    def crop(self, image: Image, input_to_image: Float, spec: InputSpec) -> Float:
        """Inputs (N, 3, h, w) of an RGB image."""
        n, (h, w) = len(input_to_image), spec.input_hw
        order = (0, 1, 2) if spec.color == "RGB" else (2, 1, 0)
        to_input = Normalisation(spec.mean, spec.std, (spec.pad_value,) * 3, order)
        inputs = np.full((n, 3, h, w), UNTOUCHED, np.float32)
        self._run("run_crop", n, image, *image.shape[:2], input_to_image.astype(np.float32), h, w,
                  ctypes.byref(to_input), int(spec.resize == "nearest"), inputs)
        return inputs

    def _run(self, name: str, *arguments: Any) -> None:
        """Call a launch; arrays go as pointers, which must be contiguous."""
        failed = getattr(self.library, name)(ctypes.c_uint(self.seed), *map(_as_c, arguments))
        if failed:
            raise RuntimeError(self.library.emulator_error().decode())


def _as_c(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        assert value.flags.c_contiguous
        return value.ctypes.data_as(ctypes.c_void_p)
    return ctypes.c_float(value) if isinstance(value, float) else value
