"""Which images calibration sees: those that are rare among them, never one that the network is judged by."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgekp.errors import DataError
from edgekp.sample import ImageFile, Instance
from optimize.calibration_set import choose_instances, farthest_points, refuse_leaks, traits
from tests import tiny

COUNT, RARE, CHOSEN = 3000, 2, 128


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Instance]]:
    """Ordinary people on a bright image; the last ``RARE`` of them are changed."""
    folder = tmp_path_factory.mktemp("crowd")
    paths = {}
    for name, grey in (("bright", 150), ("dark", 8)):
        paths[name] = str(folder / f"{name}.png")
        cv2.imwrite(paths[name], np.full((160, 160, 3), grey, np.uint8))
    rng = np.random.default_rng(0)
    standing = rng.uniform(0.2, 0.8, (17, 2))

    def make(kind: str) -> list[Instance]:
        people = []
        for number in range(COUNT):
            pose = standing + rng.normal(0, 0.03, (17, 2))
            visibility = np.where(rng.uniform(size=17) < 0.9, 2, 1)
            image, rare = "bright", number >= COUNT - RARE
            if rare and kind == "upside down":
                pose[:, 1] = 1 - pose[:, 1]
            if rare and kind == "hidden":
                visibility[:] = 1
            if rare and kind == "dark":
                image = "dark"
            size = 100 * (rng.uniform(0.9, 1.1) if not (rare and kind == "tiny") else 0.1)
            file = ImageFile(1, paths[image], 160, 160)
            people.append(Instance(number, file, 20 + pose * size, visibility, np.array([20.0, 20, size, size]),
                                   size ** 2))
        return people
    return make


@pytest.mark.parametrize("kind", ["upside down", "hidden", "dark", "tiny"])
def test_what_is_rare_is_chosen(kind: str, crowd: Callable[..., list[Instance]]) -> None:
    """A random choice of 128 of 3000 misses both of two rare ones 92 times in 100."""
    chosen = {instance.id for instance in choose_instances(crowd(kind), CHOSEN)}
    assert len(chosen) == CHOSEN
    assert chosen & set(range(COUNT - RARE, COUNT))
    at_random = [np.random.default_rng(seed).permutation(COUNT)[:CHOSEN].max() >= COUNT - RARE for seed in range(200)]
    assert np.mean(at_random) < 0.15


def test_the_chosen_cover_better_than_any_of_many_random_choices(crowd: Callable[..., list[Instance]]) -> None:
    people = crowd("upside down")
    points = traits(people)

    def farthest(chosen: list[int]) -> float:
        """Distance of the instance that is least like any chosen one."""
        return float(np.min([((points - points[one]) ** 2).sum(1) for one in chosen], axis=0).max() ** 0.5)

    ours = farthest([instance.id for instance in choose_instances(people, CHOSEN)])
    others = [farthest(np.random.default_rng(seed).permutation(COUNT)[:CHOSEN].tolist()) for seed in range(3)]
    assert ours < 0.8 * min(others)


def test_unlabelled_keypoints_say_nothing_about_the_pose(crowd: Callable[..., list[Instance]]) -> None:
    people = crowd("dark")[:200]
    far_off = [replace(one, keypoints_xy=np.where(np.arange(17)[:, None] == 3, 1e6, one.keypoints_xy),
                       visibility=np.where(np.arange(17) == 3, 0, one.visibility)) for one in people]
    away = [replace(one, keypoints_xy=np.where(np.arange(17)[:, None] == 3, -1e6, one.keypoints_xy)) for one in far_off]
    np.testing.assert_allclose(traits(far_off), traits(away), atol=1e-9)
    assert np.abs(traits(far_off)).max() < 30


def test_farthest_points_start_in_the_middle_and_go_to_the_ends() -> None:
    points = np.concatenate([np.linspace(0, 1, 101), [5.0, -3.0]])[:, None]
    assert points[farthest_points(points, 3), 0].tolist() == [pytest.approx(0.51), 5.0, -3.0]


def test_an_image_that_does_not_decode_is_named(crowd: Callable[..., list[Instance]], tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    people = crowd("dark")[:200]
    people[7] = replace(people[7], image=replace(people[7].image, path=str(broken)))
    with pytest.raises(DataError, match=r"broken\.png: neither JPEG"):
        choose_instances(people, CHOSEN)


def test_validation_images_are_refused_by_name_and_by_content(tmp_path: Path) -> None:
    train = list(tiny.instances(tmp_path, 16))
    path = Path(train[0].image.path)
    twin, other = tmp_path / "twin.png", tmp_path / "other.png"
    shutil.copy(path, twin)
    other.write_bytes(path.read_bytes()[:-1] + b"\0")  # as large, but another image

    def held_out(image: Path) -> list[Instance]:
        return [replace(train[0], image=replace(train[0].image, path=str(image)))]

    with pytest.raises(DataError, match=rf"{path.name}: chosen for calibration, and also in a validation set; take"):
        refuse_leaks(train, held_out(path.parent / "." / path.name))
    with pytest.raises(DataError, match=rf"{path.name}: chosen .* as .*twin\.png"):
        refuse_leaks(train, held_out(twin))
    refuse_leaks(train, held_out(other))
    refuse_leaks(train, [])
