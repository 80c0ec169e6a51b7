"""Golden vectors: one worked example of a contract, stored beside the model and recomputed before it is trusted.

They catch what a digest cannot: a library or an edited field that changes the numbers although the file is intact.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from tokenize import TokenError
from typing import BinaryIO
from zipfile import BadZipFile, ZipFile
from zlib import error as ZlibError

import numpy as np

from edgekp.contract import VISIBILITY, AnyContract, Contract, SceneContract
from edgekp.preprocess import normalise, transform
from edgekp.sample import Float, Image, Target
from edgekp.skeletons import Skeleton

INPUT_STEP = 3  # every third pixel of the input is kept: enough to see a shift, a ninth of the size
INPUT_ATOL = 0.06  # normalised units: 3 grey levels of 255, the spread between OpenCV's builds of the same warp
KEYPOINT_ATOL_PX = 0.02
EXACT_ATOL = 1e-6  # what involves no warp and no decoding
OUTSIDE_XYWH = np.array([100.0, 100.0, 10.0, 10.0])  # sees nothing but padding in an image of 2 x 2
HESITATION, SECOND_PEAK = 5, 0.7  # cells to a lower peak of each map, so that fusing several leaves a trace too
LARGEST_BYTES = 256 << 20  # unpacked; those of a 384 x 384 input take 4 MB
UNUSABLE = (OSError, EOFError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, BadZipFile, ZlibError,
            TokenError, SyntaxError)  # the last two from headers of .npy files, which numpy reads as Python
SHIFT = 0.05  # of sqrt(area): where the shifted keypoints of the similarity lie


def make_golden(contract: AnyContract) -> dict[str, Float]:
    """Example image and box, and what the contract makes of them; seeded, so equal for equal contracts."""
    rng = np.random.default_rng(20)
    image = _smooth_image(rng)
    bbox_xywh = np.array([30.0, -14.0, 90.0, 130.0])  # reaches out of the image, so that padding shows
    h, w = contract.input.input_hw
    keypoints_xy = rng.uniform((0.15 * w, 0.15 * h), (0.85 * w, 0.85 * h), size=(1, len(contract.skeleton), 2))
    target = _target(contract, keypoints_xy)
    outputs = {name: array + SECOND_PEAK * np.roll(array, HESITATION, -1) + rng.normal(0, 0.002, array.shape)
               for name, array in target.arrays.items()}
    vectors: dict[str, Float] = {"image": image, "bbox_xywh": bbox_xywh}
    if VISIBILITY in contract.outputs:
        outputs[VISIBILITY] = rng.normal(0, 2, (1, len(contract.skeleton)))
    vectors |= {f"output_{name}": array.astype(np.float16) for name, array in outputs.items()}
    return vectors | _derive(contract, vectors)


def check_golden(contract: AnyContract, vectors: dict[str, Float]) -> list[str]:
    """One line per vector that this contract no longer reproduces; empty when all agree."""
    needed = ["image", "bbox_xywh", *(f"output_{name}" for name in contract.outputs)]
    problems = [f"golden vectors lack '{name}'" for name in needed if name not in vectors]
    problems += [f"golden vectors have '{name}', which the model does not say" for name in vectors
                 if name.startswith("output_") and name not in needed]
    if problems:
        return problems
    if vectors["image"].ndim != 3 or vectors["image"].shape[2] != 3 or vectors["bbox_xywh"].shape != (4,):
        return [f"golden image and box: shapes {vectors['image'].shape}, {vectors['bbox_xywh'].shape}"]
    tolerance = {"input": INPUT_ATOL, "keypoints_xy": KEYPOINT_ATOL_PX, "scores": KEYPOINT_ATOL_PX}
    problems = []
    for name, found in _derive(contract, vectors).items():
        expected = vectors.get(name)
        atol = tolerance.get(name, EXACT_ATOL)
        if expected is None or expected.shape != found.shape:
            shape = None if expected is None else expected.shape
            problems.append(f"golden '{name}': shape {found.shape}, stored {shape}")
        elif not np.allclose(found, expected, rtol=0, atol=atol):
            problems.append(f"golden '{name}': off by {np.abs(found - expected).max():.4g}, allowed {atol:.4g}")
    return problems


def load_golden(file: Path | BinaryIO) -> dict[str, Float]:
    """The vectors that a file holds; one of ``UNUSABLE`` where it holds none."""
    with ZipFile(file) as packed:
        size = sum(entry.file_size for entry in packed.infolist())
        if size > LARGEST_BYTES:
            raise ValueError(f"{size >> 20} MB, expected at most {LARGEST_BYTES >> 20}")
    with np.load(file, allow_pickle=False) as archive:
        vectors = {name: archive[name] for name in archive.files}
    strange = [name for name, vector in vectors.items() if not isinstance(vector, np.ndarray)]
    if strange:  # numpy gives the bytes of a member that is no .npy
        raise ValueError(f"'{strange[0]}' is no array")
    return vectors


def _derive(contract: AnyContract, vectors: dict[str, Float]) -> dict[str, Float]:
    """What the contract computes from the stored image, box and outputs; every field of it leaves a trace."""
    tensor, crop_to_image = contract.prepare(vectors["image"].astype(np.uint8), vectors["bbox_xywh"])
    outputs = {name: vectors[f"output_{name}"].astype(np.float32) for name in contract.outputs}
    in_crop_xy, scores = _decoded(contract, outputs)
    keypoints_xy = transform(in_crop_xy, crop_to_image)
    padded, _ = contract.prepare(np.zeros((2, 2, 3), np.uint8), OUTSIDE_XYWH)
    return {"input": tensor[:, ::INPUT_STEP, ::INPUT_STEP], "keypoints_xy": keypoints_xy, "scores": scores,
            "levels": normalise(_level_ramps(), contract.input), "padded": padded[:, 0, 0],
            "names": _names_digest(contract.skeleton),
            "mirrored_xy": in_crop_xy[:, contract.skeleton.flip_order],
            "limbs": np.asarray(contract.skeleton.limbs, dtype=np.float64),
            "normaliser": np.asarray(contract.skeleton.normaliser or (), dtype=np.float64),
            "similarity": np.exp(-(SHIFT**2) / (2 * (2 * contract.skeleton.sigma_array) ** 2)),
            **_visible(contract, outputs)}


def _target(contract: AnyContract, keypoints_xy: Float) -> Target:
    """Of one person with these keypoints (1, K, 2), all visible; a scene of that person alone."""
    visibility = np.full(keypoints_xy.shape[:-1], 2)
    if isinstance(contract, SceneContract):
        return contract.encode(keypoints_xy[None], visibility[None], contract.input.input_hw)
    return contract.codec.encode(keypoints_xy, visibility)


def _decoded(contract: AnyContract, outputs: dict[str, Float]) -> tuple[Float, Float]:
    """Keypoints (P, K, 2) in input pixels and scores (P, K); P is 1 unless several people are found in a scene."""
    if isinstance(contract, SceneContract):
        return contract.decode(outputs)[0]
    return contract.codec.decode(outputs)


def _visible(contract: AnyContract, outputs: dict[str, Float]) -> dict[str, Float]:
    """The probabilities of a network that says which keypoints are visible."""
    visible = contract.visible(outputs) if isinstance(contract, Contract) else None
    return {} if visible is None else {"visible": visible}


def _level_ramps() -> Image:
    """(1, 256, 3) every byte once in each channel, in three different orders."""
    levels = np.arange(256, dtype=np.uint8)
    return np.stack([levels, levels[::-1], np.roll(levels, 100)], -1)[None]


def _names_digest(skeleton: Skeleton) -> Float:
    """(32,) the sha256 of the names in their order, as numbers like all other vectors."""
    digest = sha256("\n".join((skeleton.name, *skeleton.keypoints)).encode()).digest()
    return np.frombuffer(digest, np.uint8).astype(np.float64)


def _smooth_image(rng: np.random.Generator) -> Float:
    """(120, 150, 3) uint8 colour waves with different phases per channel and a little noise."""
    y, x = np.mgrid[0:120, 0:150].astype(np.float64)
    waves = [np.sin(x / a + phase) * np.cos(y / b - phase)
             for a, b, phase in ((9, 17, 0.3), (15, 8, 1.7), (21, 12, 2.9))]
    image = 128 + 90 * np.stack(waves, -1) + rng.normal(0, 6, (120, 150, 3))
    return np.clip(image, 0, 255).astype(np.uint8)
