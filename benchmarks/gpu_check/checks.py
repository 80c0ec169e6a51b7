"""All checks by name, in the order in which they run. Knows how to call each, and nothing of what it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.gpu_check import correctness, rivals, speed
from benchmarks.gpu_check.bench import Bench
from benchmarks.gpu_check.end_to_end import end_to_end
from benchmarks.gpu_check.networks import network_of, tiny_network
from benchmarks.gpu_check.record import Found
from benchmarks.gpu_check.sanitizer import sanitized

Check = Callable[[Bench, Path | None], Sequence[Found]]  # of the GPU, and of an artifact if one is named
CHECKS: dict[str, Check] = {
    "decoder: against numpy": lambda bench, _: correctness.decoders(bench),
    "decoder: scenes against numpy": lambda bench, _: correctness.scene_decoder(bench),
    "crops: against the contract": lambda bench, _: correctness.crops_of_a_frame(bench),
    "sanitizer: memcheck": lambda *_: sanitized("memcheck"),
    "sanitizer: racecheck": lambda *_: sanitized("racecheck"),
    "decoder: bandwidth": lambda bench, _: speed.decoder_bandwidth(bench),
    "decoder: latency": lambda bench, _: speed.decoder_latency(bench),
    "decoder: against torch": lambda bench, _: rivals.against_torch(bench),
    "decoder: against cupy": lambda bench, _: rivals.against_cupy(bench),
    "crops: time": lambda bench, _: speed.crop_kernel(bench),
    "tiny network: end to end": lambda *_: end_to_end(tiny_network()),
    "artifact: end to end": lambda _, artifact: end_to_end(network_of(artifact)),
}
