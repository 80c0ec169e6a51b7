"""Faults to plant in a healthy set, one at a time: what each is called, and how it is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from edgekp.skeletons import COCO17
from tests.edgekp.doctor.healthy import Case, Document, annotation

Plant = Callable[[Case], object]
NAN = float("nan")


def person(case: Case, number: int = 0) -> Document:
    return case.train["annotations"][number]


def set_keypoint(case: Case, index: int, *values: float, number: int = 0) -> None:
    case.train["annotations"][number]["keypoints"][3 * index:3 * index + len(values)] = values


def for_all(case: Case, change: Callable[[np.ndarray], object]) -> None:
    """Change the (17, 3) keypoints of everybody in the training split."""
    for entry in case.train["annotations"]:
        keypoints = np.array(entry["keypoints"], dtype=float).reshape(-1, 3)
        change(keypoints)
        entry.update(keypoints=keypoints.ravel().tolist(), num_keypoints=int((keypoints[:, 2] > 0).sum()))


def exchange(*pairs: tuple[int, int]) -> Callable[[np.ndarray], object]:
    """Left and right of the pairs, positions and visibility."""
    def change(keypoints: np.ndarray) -> None:
        for left, right in pairs:
            keypoints[[left, right]] = keypoints[[right, left]]
    return change


def exchange_in_one(case: Case, left: int, right: int) -> None:
    entry = person(case)
    keypoints = np.array(entry["keypoints"]).reshape(-1, 3)
    exchange((left, right))(keypoints)
    entry["keypoints"] = keypoints.ravel().tolist()


def replace_file(case: Case, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change a file's bytes without touching the other cases, which link to it."""
    data = (case.folder / name).read_bytes()
    (case.folder / name).unlink()
    (case.folder / name).write_bytes(change(data))


def turned(orientation: int) -> Callable[[bytes], bytes]:
    """A JPEG with an EXIF orientation: an APP1 segment that holds nothing else."""
    tiff = b"MM\0*" + (8).to_bytes(4, "big") + (1).to_bytes(2, "big") + bytes.fromhex("011200030000000100")
    segment = b"Exif\0\0" + tiff + orientation.to_bytes(1, "big") + bytes(6)
    return lambda data: data[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + data[2:]


def swap_stated_size(case: Case) -> None:
    image = case.train["images"][0]
    image["width"], image["height"] = image["height"], image["width"]
    person(case)["bbox"] = [100, 40, 100, 190]
    person(case)["area"] = 9000


def as_png_of(size: tuple[int, int]) -> Callable[[bytes], bytes]:
    """A PNG header that promises a size and keeps no word of it."""
    header = b"IHDR" + size[0].to_bytes(4, "big") + size[1].to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return lambda _: b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + header + bytes(4) + b"\0\0\0\0IDAT" + bytes(20)


def reencoded(data: bytes) -> bytes:
    """The same picture, a little smaller and at another quality."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return cv2.imencode(".jpg", cv2.resize(pixels, None, fx=0.9, fy=0.9), [cv2.IMWRITE_JPEG_QUALITY, 70])[1].tobytes()


def add_picture(case: Case, document: Document, like: str,
                change: Callable[[bytes], bytes]) -> None:
    """Another image, made from one of the training split's."""
    data = change((case.folder / like).read_bytes())
    (case.folder / "added.jpg").write_bytes(data)
    height, width = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[:2]
    document["images"].append({"id": 99, "file_name": "added.jpg", "width": width, "height": height})


def add_twin(case: Case) -> None:
    """The first person again, all keypoints half a pixel further right."""
    keypoints = np.array(person(case)["keypoints"]).reshape(-1, 3)
    case.train["annotations"].append(annotation(99, 1, keypoints + (0.5, 0, 0)))


def state_corners(case: Case) -> None:
    for entry in case.train["annotations"]:
        x, y, w, h = entry["bbox"]
        entry["bbox"] = [x, y, x + w, y + h]


def move_box(case: Case, *bbox: float) -> None:
    person(case).update(bbox=list(bbox), area=0.5 * bbox[2] * bbox[3])


def shrink(case: Case, number: int, height_px: float) -> None:
    """A person of that height in their upper left corner."""
    entry = person(case, number)
    keypoints = np.array(entry["keypoints"]).reshape(-1, 3)
    low = keypoints[keypoints[:, 2] > 0, :2].min(0)
    scale = height_px / np.ptp(keypoints[keypoints[:, 2] > 0, 1])
    keypoints[:, :2] = np.where(keypoints[:, 2:] > 0, low + (keypoints[:, :2] - low) * scale, 0)
    box = [*low, *(np.ptp(keypoints[keypoints[:, 2] > 0, :2], axis=0) + 1)]
    entry.update(keypoints=keypoints.ravel().tolist(), bbox=box, area=0.5 * box[2] * box[3])


def put_right_of_box(case: Case, share: float) -> None:
    """The left knee, a share of the box's longer side right of the box."""
    x, _, w, h = person(case)["bbox"]
    set_keypoint(case, 13, x + w + share * h)


def category(case: Case) -> Document:
    return case.train["categories"][0]


def both(case: Case, change: Callable[[Document], object]) -> None:
    """Change the category of both files, so that they still agree."""
    change(case.train["categories"][0])
    change(case.val["categories"][0])


def rename(old: str, new: str) -> Callable[[Document], object]:
    return lambda entry: entry["keypoints"].__setitem__(entry["keypoints"].index(old), new)


def misspell(case: Case) -> None:
    """A skeleton of one's own with a wrong name, which the files have as well."""
    names = ["right_eer" if name == "right_ear" else name for name in COCO17.keypoints]
    case.skeleton = replace(COCO17, name="mine", keypoints=tuple(names))
    both(case, lambda entry: entry.update(keypoints=names, flip_pairs=None))


def limbs(*changes: tuple[int, list[int]]) -> Callable[[Document], object]:
    return lambda entry: [entry["skeleton"].__setitem__(*change) for change in changes]


def flags(keypoints: np.ndarray) -> None:
    """v as 1 for visible and 0 for hidden, every keypoint with its position."""
    keypoints[keypoints[:, 2] == 0, :2] = 50, 60
    keypoints[:, 2] = keypoints[:, 2] == 2


FAULTS: dict[str, tuple[str, Plant]] = {
    "no annotations": ("structure", lambda c: (c.train.update(annotations=None))),
    "an image that is a word": ("structure", lambda c: c.train["images"].append("a.jpg")),
    "a text as id": ("id-not-integer", lambda c: person(c).update(id="one")),
    "no id": ("id-not-integer", lambda c: person(c).pop("id")),
    "a fraction as image id": ("id-not-integer", lambda c: (c.train["images"][0].update(id=1.5),
                                                            person(c).update(image_id=1.5))),
    "annotations from 0": ("annotation-id-zero", lambda c: person(c).update(id=0)),
    "images from 0": ("id-zero", lambda c: (c.train["images"][0].update(id=0), person(c).update(image_id=0))),
    "annotation ids twice": ("annotation-id-duplicate", lambda c: person(c).update(id=2)),
    "image ids twice": ("image-id-duplicate", lambda c: c.train["images"][13].update(id=12) or person(c, 13).update(
        image_id=12)),
    "category ids twice": ("category-id-duplicate", lambda c: c.train["categories"].append(category(c))),
    "unknown image": ("image-unknown", lambda c: person(c).update(image_id=77)),
    "image id a list": ("image-unknown", lambda c: person(c).update(image_id=[1])),
    "unknown category": ("category-unknown", lambda c: person(c).update(category_id=0)),
    "no categories": ("no-categories", lambda c: (c.train.pop("categories"), c.val.pop("categories"))),
    "NaN": ("not-a-number", lambda c: set_keypoint(c, 13, NAN)),
    "infinite box": ("not-a-number", lambda c: person(c).update(bbox=[10, 10, float("inf"), 20])),
    "a word as x": ("not-a-number", lambda c: person(c)["keypoints"].__setitem__(39, "left")),
    "a keypoint missing": ("keypoint-count", lambda c: person(c).update(keypoints=person(c)["keypoints"][3:])),
    "nested keypoints": ("keypoint-count", lambda c: person(c).update(keypoints=[[1, 2, 2]] * 17)),
    "fractions of the image": ("coordinates-normalised", lambda c: for_all(
        c, lambda keypoints: keypoints[:, :2].__itruediv__((320, 240)))),
    "area 0": ("area-not-positive", lambda c: person(c).update(area=0)),
    "no area": ("area-not-positive", lambda c: person(c).pop("area")),
    "area NaN": ("area-not-positive", lambda c: person(c).update(area=NAN)),
    "negative area": ("area-not-positive", lambda c: person(c).update(area=-4)),
    "area of the image": ("area-larger-than-box", lambda c: person(c).update(area=320 * 240)),
    "no box": ("bbox-missing", lambda c: person(c).pop("bbox")),
    "negative box": ("bbox-not-positive", lambda c: person(c)["bbox"].__setitem__(2, -30)),
    "corners": ("bbox-corners", state_corners),
    "box over the border": ("bbox-outside-image", lambda c: move_box(c, -20, 0, 300, 240)),
    "box of another picture": ("bbox-beside-image", lambda c: move_box(c, 400, 300, 100, 100)),
    "keypoint far outside": ("keypoint-outside-image", lambda c: set_keypoint(c, 13, 900.0)),
    "keypoint of a neighbour": ("keypoint-outside-box", lambda c: put_right_of_box(c, 0.7)),
    "v = 3": ("visibility-value", lambda c: set_keypoint(c, 13, 50, 60, 3)),
    "v = -1": ("visibility-value", lambda c: (set_keypoint(c, 13, 50, 60, -1), person(c).update(num_keypoints=16))),
    "flags": ("visibility-flags", lambda c: for_all(c, flags)),
    "position without label": ("unlabelled-with-position", lambda c: set_keypoint(c, 1, 5, 6, 0, number=3)),
    "positions wherever there is no label": ("unlabelled-with-position", lambda c: for_all(
        c, lambda keypoints: keypoints[:, :2].__setitem__(keypoints[:, 2] == 0, 50))),
    "labelled at the origin": ("labelled-at-origin", lambda c: set_keypoint(c, 0, 0, 0)),
    "all hidden": ("never-visible", lambda c: for_all(
        c, lambda keypoints: keypoints[:, 2].__setitem__(keypoints[:, 2] > 0, 1))),
    "none hidden": ("never-hidden", lambda c: for_all(
        c, lambda keypoints: keypoints[:, 2].__setitem__(keypoints[:, 2] > 0, 2))),
    "num_keypoints 0": ("num-keypoints", lambda c: person(c).update(num_keypoints=0)),
    "no num_keypoints": ("num-keypoints", lambda c: person(c).pop("num_keypoints")),
    "nameless keypoints": ("skeleton-unknown", lambda c: (setattr(c, "skeleton", None), both(
        c, lambda entry: entry.update(keypoints=[f"k{i}" for i in range(17)], flip_pairs=[])))),
    "names in another order": ("keypoint-names", lambda c: both(
        c, lambda entry: (rename("left_eye", "x")(entry), rename("right_eye", "left_eye")(entry),
                          rename("x", "right_eye")(entry)))),
    "a name too few": ("keypoint-names", lambda c: both(c, lambda entry: entry["keypoints"].pop(0))),
    "a name without partner": ("keypoint-without-partner", misspell),
    "a pair of two left ones": ("flip-pairs", lambda c: both(
        c, lambda entry: entry["flip_pairs"].__setitem__(0, [1, 3]))),
    "a pair out of range": ("flip-pairs", lambda c: both(c, lambda entry: entry["flip_pairs"].append([5, 17]))),
    "a keypoint in two pairs": ("flip-pairs", lambda c: both(c, lambda entry: entry["flip_pairs"].append([6, 5]))),
    "another category in val": ("categories-differ", lambda c: c.val["categories"][0].update(name="human")),
    "one person's shoulders": ("left-right-instance", lambda c: exchange_in_one(c, 5, 6)),
    "one person mirrored": ("left-right-instance", lambda c: [
        exchange_in_one(c, left, left + 1) for left in range(1, 17, 2)]),
    "everybody's eyes": ("left-right-pair", lambda c: for_all(c, exchange((1, 2)))),
    "everybody's hips": ("left-right-pair", lambda c: for_all(c, exchange((11, 12)))),
    "everybody mirrored": ("left-right-mirrored", lambda c: for_all(
        c, exchange(*((left, left + 1) for left in range(1, 17, 2))))),
    "limbs from 0": ("limbs-zero-based", lambda c: both(
        c, lambda entry: entry.update(skeleton=[[a - 1, b - 1] for a, b in entry["skeleton"]]))),
    "a limb to nowhere": ("limb-unknown", lambda c: both(c, limbs((0, [16, 18])))),
    "a limb of words": ("limb-unknown", lambda c: both(c, limbs((0, ["hip", "knee"])))),
    "a limb to itself": ("limb-to-itself", lambda c: both(c, limbs((0, [16, 16])))),
    "PAF direction reversed": ("limb-reversed", lambda c: both(c, limbs((0, [14, 16])))),
    "a limb twice": ("limb-twice", lambda c: both(c, lambda entry: entry["skeleton"].append([14, 16][::-1]))),
    "a path of this machine": ("file-name", lambda c: c.train["images"][0].update(
        file_name=str(c.folder / "train-1.jpg"))),
    "a path out of the folder": ("file-name", lambda c: c.train["images"][0].update(
        file_name=f"../{c.folder.name}/train-1.jpg")),
    "no such picture": ("image-missing", lambda c: c.train["images"][0].update(file_name="none.jpg")),
    "no name": ("image-missing", lambda c: c.train["images"][0].pop("file_name")),
    "a name that no file can have": ("image-missing", lambda c: c.train["images"][0].update(file_name="a\0.jpg")),
    "a folder": ("image-missing", lambda c: c.train["images"][0].update(file_name=".")),
    "cut off": ("image-broken", lambda c: replace_file(c, "train-1.jpg", lambda data: data[:len(data) // 2])),
    "filled with zeros": ("image-broken", lambda c: replace_file(
        c, "train-1.jpg", lambda data: data[:len(data) // 2] + bytes(len(data) // 2))),
    "no picture": ("image-broken", lambda c: replace_file(c, "train-1.jpg", lambda data: b"<html>404</html>")),
    "a header that lies": ("image-oversized", lambda c: (
        replace_file(c, "train-1.jpg", as_png_of((30000, 30000))),
        c.train["images"][0].update(width=30000, height=30000))),
    "upside down": ("image-rotated", lambda c: replace_file(c, "train-1.jpg", turned(3))),
    "labelled on the turned picture": ("labels-on-turned-image", lambda c: (
        swap_stated_size(c), replace_file(c, "train-1.jpg", turned(6)))),
    "height and width exchanged": ("image-size", swap_stated_size),
    "no size": ("image-size", lambda c: c.train["images"][0].pop("width")),
    "half the size": ("image-resized", lambda c: c.train["images"][0].update(width=640, height=480)),
    "a picture twice": ("image-duplicate", lambda c: add_picture(c, c.train, "train-1.jpg", lambda data: data)),
    "a file listed twice": ("image-duplicate", lambda c: c.train["images"].append(c.train["images"][0] | {"id": 99})),
    "a picture at another quality": ("image-near-duplicate", lambda c: add_picture(
        c, c.train, "train-1.jpg", reencoded)),
    "a training picture in val": ("image-in-two-sets", lambda c: add_picture(c, c.val, "train-1.jpg", bytes)),
    "nearly a training picture in val": ("image-near-duplicate-across-sets", lambda c: add_picture(
        c, c.val, "train-1.jpg", reencoded)),
    "an annotation twice": ("annotation-duplicate", lambda c: c.train["annotations"].append(person(c) | {"id": 99})),
    "a person twice": ("instance-duplicate", add_twin),
    "all-zero map": ("target-zero", lambda c: put_right_of_box(c, 0.4)),  # crop to 0.23, three sigmas to 0.35
    "sigma too large": ("sigma-too-large", lambda c: c.codec.update(sigma=9.0)),
    "sigma too small": ("sigma-too-small", lambda c: c.codec.update(sigma=0.5)),
    "a person of 20 pixels": ("instance-small", lambda c: shrink(c, 0, 20.0)),
}
