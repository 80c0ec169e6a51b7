"""Our decoder against torch and cupy doing the same sums, in turn. Knows no codec but DARK's heatmaps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.gpu_check.bench import Bench, Work
from benchmarks.gpu_check.correctness import open_decoder_for
from benchmarks.gpu_check.dark_by_arrays import blur_of, dark
from benchmarks.gpu_check.every_codec import KEYPOINTS, Said, crops, said
from benchmarks.gpu_check.record import Found, Skip
from benchmarks.gpu_check.speed import CODEC
from deploy.runtime.gpu.decode_plan import plan_of
from edgekp.errors import DeviceError

BATCHES = (1, 64)
CALLS = 20
FASTER = 1.0
SAME_PX = 0.05  # they sum in another order, and have no rule for NaN
Rival = tuple[Work, Callable[[], Any], Work]  # what queues it, its keypoints as a numpy array, and what waits for it


def against_torch(bench: Bench) -> list[Found]:
    """Call by call, and both as CUDA graphs, where torch's launches cost it nothing."""
    torch = _module("torch")
    if not torch.cuda.is_available():
        raise Skip("torch is installed without CUDA")
    return [found for n in BATCHES for found in _compared(bench, "torch", n, partial(_in_torch, torch))]


def against_cupy(bench: Bench) -> list[Found]:
    cupy = _module("cupy")
    return [found for n in BATCHES for found in _compared(bench, "cupy", n, partial(_in_cupy, cupy))]


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise Skip(f"{name} is not installed ({error})") from error


def _compared(bench: Bench, name: str, n: int, open_rivals: Callable[[Said, Any], dict[str, Rival]]) -> list[Found]:
    crop_to_image = crops(n)
    outputs = said(CODEC, "f32", crop_to_image)
    decoder = open_decoder_for(bench, CODEC, outputs)
    ours = partial(decoder.queue, n, {key: bench.upload(array) for key, array in outputs.stored.items()},
                   bench.upload(decoder.affines(crop_to_image)), bench.blank((n, KEYPOINTS, 3)), bench.stream)
    ours_by: dict[str, Work] = {"": ours, " as a graph": bench.as_graph(ours)}
    found = []
    for way, (theirs, keypoints, wait) in open_rivals(outputs, decoder.affines(crop_to_image)).items():
        far = float(np.abs(keypoints() - outputs.keypoints).max())
        if not far < SAME_PX:
            raise DeviceError(f"{name} decodes {far:g} px from numpy, expected less than {SAME_PX}: not the same work")
        ours_us, theirs_us = bench.wall_us([(ours_by[way], partial(bench.driver.synchronize, bench.stream)),
                                            (theirs, wait)], CALLS)
        found.append(Found(f"decoder: times faster than {name}{way}, batch {n}", theirs_us / ours_us, "x",
                           at_least=FASTER, reason=f"{ours_us:.1f} us, {theirs_us:.1f} us"))
    decoder.close()
    return found


def _constants() -> Any:
    plan = plan_of(CODEC)
    assert plan
    return blur_of(plan.taps)


def _in_torch(torch: Any, outputs: Said, affines: Any) -> dict[str, Rival]:
    maps, to_image, blur = (torch.from_numpy(np.ascontiguousarray(array)).cuda()
                            for array in (outputs.stored["heatmaps"], affines, _constants()))
    eager = partial(dark, torch, maps, to_image, blur)
    for _ in range(3):
        eager()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = eager()
    graph.replay()
    wait = torch.cuda.synchronize
    return {"": (eager, lambda: eager().cpu().numpy(), wait),
            " as a graph": (graph.replay, lambda: captured.cpu().numpy(), wait)}


def _in_cupy(cupy: Any, outputs: Said, affines: Any) -> dict[str, Rival]:
    maps, to_image, blur = (cupy.asarray(array) for array in (outputs.stored["heatmaps"], affines, _constants()))
    eager = partial(dark, cupy, maps, to_image, blur)
    return {"": (eager, lambda: cupy.asnumpy(eager()), cupy.cuda.runtime.deviceSynchronize)}
