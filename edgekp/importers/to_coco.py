"""From found instances to a COCO keypoints document; image sizes come from the image files. Knows no foreign format."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from edgekp.coco import AREA_OF_BOX, OUTSIDE_LIMIT
from edgekp.errors import DataError
from edgekp.image_header import UPRIGHT, ImageSize, image_size
from edgekp.importers.found import Found, Reading
from edgekp.sample import Float
from edgekp.skeletons import SKELETONS, Skeleton

FACES = {"ibug68", "wflw98"}
PERSON_BOX_FACTOR = 1.25  # the best overlap with COCO's boxes: median IoU 0.82 on 179 people with 12 or more keypoints
FACE_BOX_FACTOR = 1.0  # faces are customarily cropped around the box of their keypoints
FACE_AREA = 1.0  # customary where faces have no segmentation
DECIMALS = 6


def is_face(skeleton: Skeleton) -> bool:
    return skeleton.name in FACES


def default_box_factor(skeleton: Skeleton) -> float:
    """By how much the box of the keypoints is enlarged where a format has no box."""
    return FACE_BOX_FACTOR if is_face(skeleton) else PERSON_BOX_FACTOR


def area_share(skeleton: Skeleton) -> float:
    """Area of an instance over the area of its box, where there is no outline."""
    return FACE_AREA if is_face(skeleton) else AREA_OF_BOX


def keypoint_box(keypoints: Float, factor: float) -> Float:
    """(4,) x, y, w, h of the pixels that the labelled keypoints span, enlarged about its centre."""
    xy = keypoints[keypoints[:, 2] > 0, :2]
    size = (np.ptp(xy, axis=0) + 1) * factor
    center = (xy.min(0) + xy.max(0)) / 2
    return np.concatenate([center - (size - 1) / 2, size])


def coco_document(reading: Reading, skeleton: Skeleton, box_factor: float, *, prefix: str = "",
                  refuse_turned: bool = False) -> dict[str, Any]:
    """A document that ``read_coco`` takes; instances without a labelled keypoint are counted in ``reading.left_out``.

    Args:
        prefix: goes before each file name, to make it relative to where the document will be.
        refuse_turned: refuse images with an EXIF orientation; their labels are not those of the stored pixels.

    Raises:
        DataError: An image is missing, broken or of another size than its labels say; a keypoint far outside it; a
            box or an area of size 0; no instance at all.
    """
    found = [instance for instance in reading.found if (instance.keypoints[:, 2] > 0).any()]
    reading.left_out["instances without a labelled keypoint"] += len(reading.found) - len(found)
    if not found:
        raise DataError(f"{reading.images}: not one instance with a labelled keypoint; nothing is written")
    names = list(dict.fromkeys(instance.image for instance in found))
    _require_files(reading.images, names)
    sizes = {name: image_size(reading.images / name) for name in names}
    ids = {name: number for number, name in enumerate(names, start=1)}
    annotations = []
    for number, instance in enumerate(found, start=1):
        _check(instance, sizes[instance.image], refuse_turned)
        annotations.append({"id": number, "image_id": ids[instance.image], "category_id": 1,
                            **_annotation(instance, sizes[instance.image], skeleton, box_factor)})
    return {"images": [{"id": ids[name], "file_name": prefix + name, "width": sizes[name].width,
                        "height": sizes[name].height} for name in names],
            "annotations": annotations, "categories": [_category(skeleton)]}


def _category(skeleton: Skeleton) -> dict[str, Any]:
    subject = "person" if skeleton.name in SKELETONS else skeleton.name
    return {"id": 1, "name": "face" if is_face(skeleton) else subject, "keypoints": list(skeleton.keypoints),
            "skeleton": [[first + 1, second + 1] for first, second in skeleton.limbs]}  # COCO counts limbs from 1


def _require_files(folder: Path, names: list[str]) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        examples = ", ".join(missing[:3]) + (" and others" if len(missing) > 3 else "")
        raise DataError(f"{folder}: {len(missing)} of {len(names)} images are not there: {examples}; "
                        "--images names another folder")


def _check(instance: Found, size: ImageSize, refuse_turned: bool) -> None:
    where, stored_wh = f"{instance.where}: image '{instance.image}'", (size.width, size.height)
    if refuse_turned and size.exif_orientation != UPRIGHT:
        raise DataError(f"{where} is shown turned (EXIF orientation {size.exif_orientation}), so its labels are not "
                        "those of the stored pixels; store it upright, without the tag, and import again")
    if instance.declared_wh not in (None, stored_wh):
        raise DataError(f"{where} has {size.width} x {size.height} pixels, its labels were made on "
                        f"{' x '.join(map(str, instance.declared_wh or ()))}; label coordinates must be the file's")
    xy = instance.keypoints[instance.keypoints[:, 2] > 0, :2]
    far = np.maximum(-xy, xy - (np.array(stored_wh) - 1)).max(-1) > OUTSIDE_LIMIT * max(stored_wh)
    if far.any():
        x, y = xy[far][0]
        raise DataError(f"{where}: keypoint ({x:.1f}, {y:.1f}) lies far outside its "
                        f"{size.width} x {size.height} pixels; was the image resized after it was labelled?")


def _annotation(instance: Found, size: ImageSize, skeleton: Skeleton, box_factor: float) -> dict[str, Any]:
    if instance.bbox_xywh is None:
        box, box_source = _clipped(keypoint_box(instance.keypoints, box_factor), size), f"keypoints x {box_factor:g}"
    else:
        box, box_source = instance.bbox_xywh, instance.bbox_source
    share = area_share(skeleton)
    area, area_source = instance.area_px2, instance.area_source
    if area is None:
        area, area_source = share * float(box[2] * box[3]), f"box x {share:g}"
    with np.errstate(over="ignore", invalid="ignore"):
        box, area = box.round(DECIMALS), round(area, DECIMALS)  # as written: rounding may leave nothing, or infinity
    if not (min(box[2:]) > 0 and 0 < area < math.inf and np.isfinite(box).all()):
        raise DataError(f"{instance.where}: box {box.tolist()}, area {area:g}; expected a positive size")
    keypoints = np.where(instance.keypoints[:, 2:] > 0, instance.keypoints, 0.0)
    head = {} if instance.head_size_px is None else {"head_size_px": round(instance.head_size_px, DECIMALS)}
    if not all(0 < size_px < math.inf for size_px in head.values()):
        raise DataError(f"{instance.where}: a head of size {instance.head_size_px:g}; PCKh divides by it")
    return {"keypoints": [value for x, y, v in keypoints.round(DECIMALS).tolist() for value in (x, y, int(v))],
            "num_keypoints": int((keypoints[:, 2] > 0).sum()), "bbox": box.tolist(),
            "bbox_source": box_source, "area": area, "area_source": area_source, "iscrowd": 0, **head}


def _clipped(box: Float, size: ImageSize) -> Float:
    """The part of a box inside the image, at least a pixel of it."""
    limit = np.array([size.width, size.height])
    first = np.clip(box[:2], 0, limit - 1)
    last = np.clip(box[:2] + box[2:], first + 1, limit)
    return np.concatenate([first, last - first])
