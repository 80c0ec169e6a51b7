"""From a frame to keypoints with a whole network: by launches, by a CUDA graph, and what the host says of the frame."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from benchmarks.gpu_check.correctness import BOXES, picture
from benchmarks.gpu_check.record import Found
from deploy.runtime.frame import Estimate, Estimator
from deploy.runtime.gpu.backend import open_driver
from deploy.runtime.gpu.driver import CudaDriver
from deploy.runtime.gpu.estimator import Engine, GpuEstimator
from deploy.runtime.gpu.kernel_cache import load_kernels
from deploy.runtime.gpu.replayed_work import RUNS_BEFORE_CAPTURE
from deploy.runtime.host_estimator import HostEstimator
from deploy.runtime.session import Session
from edgekp.contract import AnyContract, Contract
from edgekp.sample import Float, Image

WARM_UP, FRAMES = 2 * RUNS_BEFORE_CAPTURE, 200
NEVER = 1 << 30  # runs
SAME_SHARE = 0.005  # of a box: crops may differ by a step of a byte, and sums are taken in another order


@dataclass(frozen=True)
class Network:
    """A network that is timed.

    Attributes:
        name: with what runs it, such as ``tiny, torch 2.11``.
        engine: opened once for each estimator.
        on_host: the same network on the processor.
    """

    name: str
    contract: AnyContract
    engine: Callable[[CudaDriver], Engine]
    on_host: Callable[[], Session]


def end_to_end(network: Network) -> list[Found]:
    """Median and 95th percentile of a frame's time, and how far its keypoints are from the host's."""
    bgr = np.ascontiguousarray(picture()[..., ::-1])
    boxes = BOXES[:1] if isinstance(network.contract, Contract) else np.empty((0, 4))
    with closing(_open(network, RUNS_BEFORE_CAPTURE)) as by_graph, closing(_open(network, NEVER)) as by_launches:
        frames: dict[str, list[tuple[float, Estimate]]] = {"graph": [], "launches": []}
        for _ in range(WARM_UP + FRAMES):
            frames["graph"].append(_timed(by_graph, bgr, boxes))
            frames["launches"].append(_timed(by_launches, bgr, boxes))
        replays, found = by_graph.replays_a_graph, by_graph.estimate(bgr, BOXES)
    graph_ms, launches_ms = (np.array([ms for ms, _ in taken[WARM_UP:]]) for taken in frames.values())
    stages = [np.median([getattr(estimate, f"{stage}_ms") for _, estimate in frames["graph"][WARM_UP:]])
              for stage in ("pre", "infer", "decode")]
    by = "CUDA graph" if replays else "launches; no CUDA graph could be had"
    return [
        Found(f"{network.name}: frame to keypoints, p50", float(np.median(graph_ms)), "ms", reason=f"by {by}; upload "
              "and crop {:.3f}, network {:.3f}, decode and copy {:.3f}".format(*stages)),
        Found(f"{network.name}: frame to keypoints, p95", float(np.percentile(graph_ms, 95)), "ms"),
        Found(f"{network.name}: launches over graph", float(np.median(launches_ms) / np.median(graph_ms)), "x",
              reason=f"p50 by launches {np.median(launches_ms):.3f} ms"),
        Found(f"{network.name}: distance from the host", _distance(network, found, bgr), "of a box",
              at_most=SAME_SHARE)]


def _open(network: Network, runs_before_capture: int) -> GpuEstimator:
    driver = open_driver()
    return GpuEstimator(network.contract, network.engine(driver), driver, load_kernels(driver), runs_before_capture)


def _timed(estimator: Estimator, bgr: Image, boxes: Float) -> tuple[float, Estimate]:
    start = perf_counter()
    found = estimator.estimate(bgr, boxes)
    return 1e3 * (perf_counter() - start), found


def _distance(network: Network, found: Estimate, bgr: Image) -> float:
    """Median over all keypoints, as a share of the box's longer side, or of the frame's where there are no boxes."""
    with closing(HostEstimator(network.on_host(), network.contract)) as host:
        expected = host.estimate(bgr, BOXES).people
    if len(found.people) != len(expected):
        return float("inf")
    if not expected:
        return 0.0
    sides = BOXES[:, 2:].max(1) if isinstance(network.contract, Contract) else np.full(len(expected), max(bgr.shape))
    return float(np.median([np.linalg.norm(ours.keypoints_xy - theirs.keypoints_xy, axis=-1) / side
                            for ours, theirs, side in zip(found.people, expected, sides, strict=True)]))
