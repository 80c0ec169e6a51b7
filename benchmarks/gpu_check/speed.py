"""How fast the kernels are: beside a copy of as many bytes, for one person, and for crops. Knows no other library."""

from __future__ import annotations

from functools import partial
from math import ceil
from pathlib import Path
from time import perf_counter

import numpy as np

from benchmarks.gpu_check.bench import Bench, Work
from benchmarks.gpu_check.correctness import BOXES, FRAME_HW, open_decoder_for
from benchmarks.gpu_check.every_codec import INPUT_HW, KEYPOINTS, crops, said
from benchmarks.gpu_check.record import Found, Skip
from deploy.runtime.gpu.decode import CudaCropper, CudaDecoder
from deploy.runtime.gpu.driver import Kernel
from deploy.runtime.gpu.kernel_compiler import compile_kernels
from edgekp.codecs import Heatmap
from edgekp.errors import DeviceError
from edgekp.preprocess import InputSpec, crop_affine, invert

CODEC = Heatmap(INPUT_HW)
BATCH = 64
BEYOND_CACHES = 1 << 28  # bytes that are gone through before any is read again; the largest L2 of a GPU is 126 MB
LEAST_SHARE, MOST_US = 0.60, 20.0
IN_A_GRAPH = 20  # launches, so that what starts a graph does not count
ROUNDS = 100
WORD_BYTES, COPIED_BY_A_BLOCK, COPY_BLOCK = 16, 1024, 256  # as in copy.cu


def decoder_bandwidth(bench: Bench) -> list[Found]:
    """Heatmaps that are read once, beside a copy that moves as many bytes at a time, and beside one long copy."""
    outputs = said(CODEC, "f32", crops(BATCH))
    maps = outputs.stored["heatmaps"]
    sets = ceil(BEYOND_CACHES / maps.nbytes)
    first, target = bench.upload(maps, times=sets), bench.memory.take(sets * maps.nbytes // 2)
    copy = _copy_kernel(bench)
    decoder = open_decoder_for(bench, CODEC, outputs)
    affines, keypoints = bench.upload(decoder.affines(crops(BATCH))), bench.blank((BATCH, KEYPOINTS, 3))

    def decode_all() -> None:
        for number in range(sets):
            decoder.queue(BATCH, {"heatmaps": first + number * maps.nbytes}, affines, keypoints, bench.stream)

    def copy_all() -> None:
        for number in range(sets):
            _copy(bench, copy, first + number * maps.nbytes, target + number * maps.nbytes // 2, maps.nbytes // 2)

    long_copy = partial(_copy, bench, copy, first, target, sets * maps.nbytes // 2)
    times_us = bench.in_turn_us([bench.as_graph(decode_all), bench.as_graph(copy_all), bench.as_graph(long_copy)],
                                ROUNDS)
    decoder.close()
    decoded, copied, long = (sets * maps.nbytes / us / 1e3 for us in times_us)  # of a copy read and written together
    shape = f"{BATCH} x {KEYPOINTS} x {maps.shape[2]} x {maps.shape[3]}"
    return [Found(f"decoder: bandwidth, {shape}", decoded, "GB/s"),
            Found("copy: bandwidth, as many bytes at a time", copied, "GB/s"),
            Found("copy: bandwidth, one long copy", long, "GB/s"),
            Found("decoder: share of a copy of as many bytes", decoded / copied, "", at_least=LEAST_SHARE),
            Found("decoder: share of a long copy", decoded / long, "")]


def _copy_kernel(bench: Bench) -> Kernel:
    try:
        cubin = compile_kernels(Path(__file__).parent / "copy.cu", bench.driver.gpu.architecture)
    except DeviceError as error:  # the kernels themselves may have come from a cache
        raise Skip(f"nothing to compare with: {error}") from error
    return bench.driver.load(cubin, ["copy_words"])["copy_words"]


def _copy(bench: Bench, kernel: Kernel, source: int, target: int, size_bytes: int) -> None:
    words = size_bytes // WORD_BYTES
    bench.driver.launch(kernel, (ceil(words / COPIED_BY_A_BLOCK), 1), COPY_BLOCK,
                        [np.uint64(source), np.uint64(target), np.int32(words)], bench.stream)


def decoder_latency(bench: Bench) -> list[Found]:
    """One person: on the device, and for a caller who waits for the keypoints."""
    decoder, launch, keypoints = one_person(bench)
    on_device_us, = bench.in_turn_us([bench.as_graph(lambda: _repeat(launch, IN_A_GRAPH))], ROUNDS)
    host = bench.driver.pinned((1, KEYPOINTS, 3), np.float32)
    waited = []
    for _ in range(ROUNDS):
        start = perf_counter()
        launch()
        bench.driver.to_host(host, keypoints, bench.stream)
        bench.driver.synchronize(bench.stream)
        waited.append(1e6 * (perf_counter() - start))
    decoder.close()
    return [Found("decoder: one person, on the device", on_device_us / IN_A_GRAPH, "us", at_most=MOST_US),
            Found("decoder: one person, until the host has it", float(np.median(waited)), "us")]


def one_person(bench: Bench) -> tuple[CudaDecoder, Work, int]:
    """A decoder, what queues it for one person, and where the keypoints lie then."""
    crop_to_image = crops(1)
    outputs = said(CODEC, "f32", crop_to_image)
    decoder = open_decoder_for(bench, CODEC, outputs)
    affines, keypoints = bench.upload(decoder.affines(crop_to_image)), bench.blank((1, KEYPOINTS, 3))
    addresses = {name: bench.upload(array) for name, array in outputs.stored.items()}
    return decoder, partial(decoder.queue, 1, addresses, affines, keypoints, bench.stream), keypoints


def crop_kernel(bench: Bench) -> list[Found]:
    """Warp and normalisation of a few people, on the device."""
    spec = InputSpec(INPUT_HW)
    to_image = np.stack([invert(crop_affine(box, spec.input_hw, spec.padding)) for box in BOXES]).astype(np.float32)
    frame = bench.upload(np.random.default_rng(0).integers(0, 256, (*FRAME_HW, 3), dtype=np.uint8))
    inputs, affines = bench.blank((len(BOXES), 3, *INPUT_HW)), bench.upload(to_image)
    cropper = CudaCropper(bench.driver, bench.kernels, spec)
    launch = partial(cropper.queue, len(BOXES), frame, FRAME_HW, affines, inputs, bench.stream)
    us, = bench.in_turn_us([bench.as_graph(lambda: _repeat(launch, IN_A_GRAPH))], ROUNDS)
    size = " x ".join(map(str, INPUT_HW))
    return [Found(f"crops: {len(BOXES)} of {size}, on the device", us / IN_A_GRAPH, "us")]


def _repeat(work: Work, times: int) -> None:
    for _ in range(times):
        work()
