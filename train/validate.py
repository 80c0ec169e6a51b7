"""A quick look at accuracy during training, for the curves. The verdict belongs to the eval stage."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from edgekp.contract import Contract
from edgekp.sample import Float, Instance
from train.dataset import KeypointDataset
from train.visibility import balanced_accuracy
from train.world import World

PCK_THRESHOLD = 0.2
BATCH = 64
INSTANCES = 400  # enough for a curve


@torch.no_grad()
def validate(net: nn.Module, instances: tuple[Instance, ...], contract: Contract, device: torch.device,
             world: World) -> dict[str, float]:
    """PCK at 0.2 of the box and the mean error as a fraction of sqrt(area), over up to 400 instances.

    Of a network that says which keypoints are visible, also how often it is right, visible and hidden ones in balance.
    Every process of ``world`` measures its share, and all of them learn the result.
    """
    net.eval()
    rows = world.share(list(range(min(INSTANCES, len(instances)))))
    dataset = KeypointDataset(instances, contract, None, seed=0)
    mine: list[Float] = [row for start in range(0, len(rows), BATCH)
            for row in _judged(net, dataset, rows[start:start + BATCH], device)]
    everyones: list[Float] = world.gather(mine)
    distance, visible = np.stack(everyones, axis=1)  # (N, K) each
    measured = instances[:len(distance)]
    box_sides = np.array([instance.bbox_xywh[2:].max() for instance in measured])
    scales = np.sqrt([instance.area_px2 for instance in measured])
    labelled = ~np.isnan(distance)
    hits = (distance <= PCK_THRESHOLD * box_sides[:, None])[labelled]
    errors = (distance / scales[:, None])[labelled]
    metrics = {"pck@0.2": float(hits.mean()), "error": float(errors.mean())}
    if contract.visibility:
        labels = np.stack([instance.visibility for instance in measured])
        metrics["visibility"] = balanced_accuracy(visible, labels)
    return metrics


def _judged(net: nn.Module, dataset: KeypointDataset, rows: list[int], device: torch.device) -> list[Float]:
    """For each instance (2, K): how far its keypoints are off, in image pixels, and how likely they are visible.

    NaN where none is labelled, and where the network does not say.
    """
    contract = dataset.contract
    inputs, keypoints_xy, _ = zip(*(dataset.sample(0, row) for row in rows), strict=True)
    outputs = net(torch.from_numpy(np.stack(inputs)).to(device))
    arrays = {name: value.float().cpu().numpy() for name, value in zip(contract.outputs, outputs, strict=True)}
    predicted_xy, _ = contract.codec.decode(arrays)
    input_px = np.linalg.norm(predicted_xy - np.stack(keypoints_xy), axis=-1)
    boxes = np.stack([dataset.instances[row].bbox_xywh for row in rows])
    h, w = contract.input.input_hw
    image_px_per_input_px = np.maximum(boxes[:, 2] / w, boxes[:, 3] / h) * contract.input.padding
    labelled = np.stack([dataset.instances[row].labelled for row in rows])
    distances = np.where(labelled, input_px * image_px_per_input_px[:, None], np.nan)
    visible = contract.visible(arrays)
    return list(np.stack([distances, np.full_like(distances, np.nan) if visible is None else visible], axis=1))
