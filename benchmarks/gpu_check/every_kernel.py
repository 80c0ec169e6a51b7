"""``python -m benchmarks.gpu_check.every_kernel``: runs every kernel once, for tools that watch a program."""

from __future__ import annotations

from functools import partial

from benchmarks.gpu_check.bench import Bench
from benchmarks.gpu_check.correctness import crops_of_a_frame, decoders, scene_decoder
from benchmarks.gpu_check.sanitizer import EVERY_KERNEL_RAN
from deploy.runtime.gpu.backend import open_driver

if __name__ == "__main__":
    bench = Bench(open_driver())
    bench.load()
    for run in (decoders, scene_decoder, crops_of_a_frame):
        bench.freed_after(partial(run, bench))
    bench.driver.close()
    print(EVERY_KERNEL_RAN)
