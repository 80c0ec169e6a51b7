"""Run models over the whole images of a label set, one pass each. What they find has no annotation's name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from deploy.runtime.session import Session
from edgekp.contract import SceneContract
from edgekp.errors import DataError
from edgekp.preprocess import frame_xywh, read_image
from edgekp.sample import Float, ImageFile, Prediction
from edgekp.stage import say
from eval.ground_truth import GroundTruth
from eval.results import Result, as_result

BATCH = 4  # a scene has several times the pixels of a crop
Batch = tuple[list[ImageFile], Float, Float]  # N images, (N, 3, h, w) inputs, (N, 2, 3) input to image


def predict_scenes(names: Sequence[str], sessions: Sequence[Session], contract: SceneContract,
                   truth: GroundTruth) -> list[list[Result]]:
    """Results of each open session for all images of the labels, in COCO's format.

    Nobody is found on an image for which a network's output holds NaN or infinity.

    Raises:
        DataError: The labels have several categories, of which the networks know nothing.
    """
    if len(truth.category_ids) != 1:
        raise DataError(f"{truth.labels.path}: categories {truth.category_ids}, expected one, as a network of whole "
                        "scenes does not say which one it finds")
    results: list[list[Result]] = [[] for _ in sessions]
    broken = dict.fromkeys(range(len(sessions)), 0)
    for images, inputs, affines in _prepared_batches(contract, truth):
        for number, session in enumerate(sessions):
            for image, people in zip(images, _people(session, contract, inputs, affines), strict=True):
                broken[number] += people is None
                results[number] += [as_result(image.id, truth.category_ids[0], person) for person in people or ()]
    for number, count in broken.items():
        if count:
            say(f"eval: {names[number]}: NaN or infinite outputs for {count} of {len(truth.labels.images)} images")
    return results


def _prepared_batches(contract: SceneContract, truth: GroundTruth) -> Iterator[Batch]:
    """All images, as the network sees them."""
    images = sorted(truth.labels.images, key=lambda image: image.id)
    for start in range(0, len(images), BATCH):
        pixels = [read_image(image.path) for image in images[start:start + BATCH]]
        inputs, affines = zip(*(contract.prepare(image, frame_xywh(image)) for image in pixels), strict=True)
        yield images[start:start + BATCH], np.stack(inputs), np.stack(affines)


def _people(session: Session, contract: SceneContract, inputs: Float,
            input_to_image: Float) -> list[list[Prediction] | None]:
    """Who is found on each image; None where an output is not finite."""
    outputs = session.infer(inputs)
    finite = np.all([np.isfinite(array).reshape(len(inputs), -1).all(1) for array in outputs.values()], axis=0)
    people = contract.interpret(outputs, input_to_image)
    return [found if sound else None for found, sound in zip(people, finite, strict=True)]
