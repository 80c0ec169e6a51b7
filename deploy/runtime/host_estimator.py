"""From a frame to keypoints with any session: crops and decoding on the processor, by the contract. Knows no camera."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np

from deploy.runtime.frame import Estimate
from deploy.runtime.session import Session
from edgekp.contract import AnyContract, Contract, SceneContract
from edgekp.preprocess import frame_xywh
from edgekp.sample import Float, Image, Prediction

MOST_AT_ONCE = 16  # boxes of one call: 16 inputs of 256 x 192 are 9 MB


class HostEstimator:
    """A session, its contract, and the inputs that it is shown; an ``Estimator``."""

    def __init__(self, session: Session, contract: AnyContract) -> None:
        self._session = session
        self._contract = for_frames(contract)
        self._inputs = np.empty((MOST_AT_ONCE, 3, *contract.input.input_hw), np.float32)
        self.needs_boxes = isinstance(contract, Contract)

    def estimate(self, bgr: Image, boxes_xywh: Float) -> Estimate:
        if not self.needs_boxes:
            return self._estimate_some(bgr, frame_xywh(bgr)[None])
        parts = [self._estimate_some(bgr, boxes_xywh[first:first + MOST_AT_ONCE])
                 for first in range(0, len(boxes_xywh), MOST_AT_ONCE)]
        return Estimate([person for part in parts for person in part.people], sum(part.pre_ms for part in parts),
                        sum(part.infer_ms for part in parts), sum(part.decode_ms for part in parts))

    def close(self) -> None:
        self._session.close()

    def _estimate_some(self, bgr: Image, boxes_xywh: Float) -> Estimate:
        marks = [perf_counter()]
        inputs = self._inputs[:len(boxes_xywh)]
        crop_to_image = np.stack([self._contract.prepare(bgr, box, out=row)[1]
                                  for box, row in zip(boxes_xywh, inputs, strict=True)])
        marks.append(perf_counter())
        outputs = self._session.infer(inputs)
        marks.append(perf_counter())
        people = read(self._contract, outputs, crop_to_image)
        marks.append(perf_counter())
        return Estimate(people, *(1e3 * np.diff(marks)).tolist())


def for_frames(contract: AnyContract) -> AnyContract:
    """The contract as it is for frames, whose colours are BGR."""
    return replace(contract, input=contract.input.for_bgr_images())


def read(contract: AnyContract, outputs: dict[str, Any], input_to_image: Float) -> list[Prediction]:
    """The people that outputs stand for: one for each input, or all of the one scene."""
    if isinstance(contract, SceneContract):
        return contract.interpret(outputs, input_to_image)[0]
    return contract.interpret(outputs, input_to_image)
