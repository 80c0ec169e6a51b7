"""A quick look at accuracy during training, for the curves. The verdict belongs to the eval stage."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from edgekp.contract import Contract
from edgekp.sample import Instance
from train.dataset import KeypointDataset

PCK_THRESHOLD = 0.2
BATCH = 64
INSTANCES = 400  # enough for a curve


@torch.no_grad()
def validate(net: nn.Module, instances: tuple[Instance, ...], contract: Contract,
             device: torch.device) -> dict[str, float]:
    """PCK at 0.2 of the box and the mean error as a fraction of sqrt(area), over up to 400 instances."""
    net.eval()
    dataset = KeypointDataset(instances[:INSTANCES], contract, None, seed=0)
    distances, box_sides, scales = [], [], []
    for start in range(0, len(dataset), BATCH):
        chosen = dataset.instances[start:start + BATCH]
        inputs, keypoints_xy, _ = zip(*(dataset.sample(0, start + i) for i in range(len(chosen))), strict=True)
        outputs = net(torch.from_numpy(np.stack(inputs)).to(device))
        arrays = {name: value.float().cpu().numpy()
                  for name, value in zip(contract.codec.outputs, outputs, strict=True)}
        predicted_xy, _ = contract.codec.decode(arrays)
        input_px = np.linalg.norm(predicted_xy - np.stack(keypoints_xy), axis=-1)
        boxes = np.stack([instance.bbox_xywh for instance in chosen])
        h, w = contract.input.input_hw
        image_px_per_input_px = np.maximum(boxes[:, 2] / w, boxes[:, 3] / h) * contract.input.padding
        distances.append(np.where([i.labelled for i in chosen], input_px * image_px_per_input_px[:, None], np.nan))
        box_sides.append(boxes[:, 2:].max(1))
        scales.append(np.sqrt([instance.area_px2 for instance in chosen]))
    distance = np.concatenate(distances)
    labelled = ~np.isnan(distance)
    hits = (distance <= PCK_THRESHOLD * np.concatenate(box_sides)[:, None])[labelled]
    errors = (distance / np.concatenate(scales)[:, None])[labelled]
    return {"pck@0.2": float(hits.mean()), "error": float(errors.mean())}
