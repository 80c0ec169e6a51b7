"""The kernels on a real GPU say what numpy says: every codec, every type of numbers, scenes, crops. Knows no clock."""

from __future__ import annotations

import numpy as np

from benchmarks.gpu_check.bench import Bench
from benchmarks.gpu_check.every_codec import CODECS, NUMBERS, Said, crops, said, scenes
from benchmarks.gpu_check.record import Found
from deploy.runtime.gpu.decode import CudaCropper, CudaDecoder, open_decoder
from deploy.runtime.gpu.scene_decode import open_scene_decoder
from edgekp.codecs import Codec
from edgekp.contract import Contract
from edgekp.errors import DeviceError
from edgekp.preprocess import InputSpec, preprocess
from edgekp.sample import Float, Image
from edgekp.skeletons import COCO17

PEOPLE = 3
ATOL_PX, SCENE_ATOL_PX = 1e-3, 5e-3
MOST_PEOPLE = 16
FRAME_HW = (720, 1280)
BOXES = np.array([[300.0, 100, 200, 500], [-50, -40, 300, 400], [1100, 500, 300, 300], [640, 360, 40, 50]])


def decoders(bench: Bench) -> list[Found]:
    """Largest distance of x, y (image pixels) and score from what the codec decodes."""
    return [_decoder(bench, f"decoder: {name}, {number}", codec, number)
            for name, codec in CODECS.items() for number in NUMBERS]


def _decoder(bench: Bench, check: str, codec: Codec, number: str) -> Found:
    crop_to_image = crops(PEOPLE)
    outputs = said(codec, number, crop_to_image)
    decoder = open_decoder_for(bench, codec, outputs)
    try:
        found = decode(bench, decoder, outputs, crop_to_image)
    finally:
        decoder.close()
    return Found(check, float(np.abs(found - outputs.keypoints).max()), "px", at_most=ATOL_PX)


def open_decoder_for(bench: Bench, codec: Codec, outputs: Said) -> CudaDecoder:
    stored = {name: (array.shape[1:], array.dtype, outputs.scale) for name, array in outputs.stored.items()}
    decoder = open_decoder(bench.driver, bench.kernels, Contract(InputSpec(codec.input_hw), codec, COCO17), stored)
    if decoder is None:
        raise DeviceError(f"no kernel decodes {type(codec).__name__}, expected one; see decode_plan.py")
    return decoder


def decode(bench: Bench, decoder: CudaDecoder, outputs: Said, crop_to_image: Float) -> Float:
    """(N, K, 3) by the kernel."""
    n = len(crop_to_image)
    keypoints = bench.blank((n, *decoder.keypoints_shape))
    decoder.queue(n, {name: bench.upload(array) for name, array in outputs.stored.items()},
                  bench.upload(decoder.affines(crop_to_image)), keypoints, bench.stream)
    return np.asarray(bench.download(keypoints, (n, *decoder.keypoints_shape)))


def scene_decoder(bench: Bench) -> list[Found]:
    """The same for the people of scenes; another number of them is an infinite distance."""
    contract, outputs = scenes()
    stored = {name: (array.shape[1:], array.dtype, 1.0) for name, array in outputs.items()}
    n = len(outputs["heatmaps"])
    decoder = open_scene_decoder(bench.driver, bench.kernels, contract, stored, n, MOST_PEOPLE)
    assert decoder
    people, counts = bench.blank((n, *decoder.people_shape)), bench.upload(np.full(n, -1, np.int32))
    try:
        decoder.queue(n, {name: bench.upload(array) for name, array in outputs.items()},
                      bench.upload(decoder.affines(np.zeros((n, 2, 3)))), people, counts, bench.stream)
        rows = bench.download(people, (n, *decoder.people_shape))
        found = [people[:count] for people, count in zip(rows, bench.download(counts, (n,), np.int32), strict=True)]
    finally:
        decoder.close()
    expected = [np.concatenate([xy, scores[..., None]], -1) for xy, scores in contract.codec.decode(outputs)]
    distances = [float(np.abs(ours - theirs).max(initial=0)) if ours.shape == theirs.shape else float("inf")
                 for ours, theirs in zip(found, expected, strict=True)]
    people_px = ", ".join(str(len(each)) for each in expected)
    return [Found("decoder: scenes, f32", max(distances), "px", at_most=SCENE_ATOL_PX, reason=f"{people_px} people")]


def crops_of_a_frame(bench: Bench) -> list[Found]:
    """How far inputs are from the contract's, in levels of 0 to 255.

    OpenCV reads positions to 1/32 of a pixel: 1/64 of the steepest step between neighbours, along each axis, and the
    rounding to a byte.
    """
    spec, image = InputSpec((256, 192)), picture()
    by_host, affines = zip(*(preprocess(image, box, spec) for box in BOXES), strict=True)
    inputs = np.asarray(bench.download(_crop(bench, spec, image, np.stack(affines)), (len(BOXES), 3, *spec.input_hw)))
    levels = np.abs(inputs - np.stack(by_host)) * np.reshape(spec.std, (3, 1, 1))
    steepest = max(int(np.abs(np.diff(image.astype(int), axis=axis)).max()) for axis in (0, 1))
    return [Found("crops: largest difference", float(levels.max()), "levels", at_most=2 * max(steepest, 128) / 64 + 1),
            Found("crops: mean difference", float(levels.mean()), "levels", at_most=0.3)]


def _crop(bench: Bench, spec: InputSpec, image: Image, input_to_image: Float) -> int:
    inputs = bench.blank((len(input_to_image), 3, *spec.input_hw))
    CudaCropper(bench.driver, bench.kernels, spec).queue(
        len(input_to_image), bench.upload(image), (image.shape[0], image.shape[1]),
        bench.upload(input_to_image.astype(np.float32)), inputs, bench.stream)
    return inputs


def picture() -> Image:
    """Waves and a little noise."""
    y, x = np.mgrid[0:FRAME_HW[0], 0:FRAME_HW[1]]
    waves = np.stack([np.sin(x / a) * np.cos(y / b) for a, b in ((9, 17), (15, 8), (21, 12))], -1)
    noise = np.random.default_rng(0).normal(0, 6, waves.shape)
    return np.clip(128 + 90 * waves + noise, 0, 255).astype(np.uint8)
