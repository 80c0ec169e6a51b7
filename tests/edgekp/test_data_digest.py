"""The digest of a data set: it changes with every byte of labels and images, and is cheap the second time."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekp import data_digest as module
from edgekp.changed_files import cache_folder
from edgekp.coco import read_coco
from edgekp.data_digest import data_digest
from edgekp.errors import DataError
from edgekp.skeletons import SKELETONS
from edgekp.stage import Key, run_stage

NAMES = ["a.jpg", "b.jpg", "nobody.jpg", "sub/c.jpg"]
LONG_AGO_NS = 10**18


@pytest.fixture
def labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four images that have not changed for years; those of one have no person."""
    monkeypatch.setenv("EDGEKP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "SETTLED_NS", -(10**12))  # the files of this test count as old
    (tmp_path / "sub").mkdir()
    for name in NAMES:
        (tmp_path / name).write_bytes(f"pixels of {name}".encode())
    path = tmp_path / "val.json"
    path.write_text(json.dumps({"images": [{"id": i, "file_name": name} for i, name in enumerate(NAMES)],
                                "annotations": []}))
    return path


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read."""
    names, original = [], module.sha256

    def spied(path: Path) -> str:
        names.append(path.name)
        return original(path)

    monkeypatch.setattr(module, "sha256", spied)
    return names


def test_the_second_time_no_image_is_read(labels: Path, read: list[str]) -> None:
    first = data_digest(labels)
    assert sorted(read) == ["a.jpg", "b.jpg", "c.jpg", "nobody.jpg", "val.json"]
    assert (first.count, first.missing) == (4, ())
    read.clear()
    assert data_digest(labels) == first
    assert read == ["val.json"]


@pytest.mark.parametrize("name", NAMES)
def test_every_image_counts(labels: Path, name: str) -> None:
    before, path = data_digest(labels), labels.parent / name
    size = path.stat().st_size
    path.write_bytes(b"x" * size)
    os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    assert data_digest(labels).images != before.images
    path.unlink()
    assert data_digest(labels).missing == (name,)


def test_a_change_that_hides_its_time_is_noticed(labels: Path) -> None:
    """``cp -p`` and ``touch -r`` set the time of the content, not that of the file's own record."""
    path = labels.parent / "a.jpg"
    os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    before = data_digest(labels)
    with path.open("r+b") as file:
        file.write(b"P")
    os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    assert data_digest(labels).images != before.images


def test_what_has_just_changed_is_read_again(labels: Path, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A second change within one tick of the file system's clock would leave no trace."""
    monkeypatch.setattr(module, "SETTLED_NS", 2_000_000_000)
    for _ in range(2):
        read.clear()
        data_digest(labels)
        assert "a.jpg" in read


def test_labels_count_byte_by_byte_and_keep_what_is_known_of_images(labels: Path, read: list[str]) -> None:
    before = data_digest(labels)
    labels.write_text(labels.read_text() + "\n")
    read.clear()
    after = data_digest(labels)
    assert (after.labels == before.labels, after.images == before.images) == (False, True)
    assert read == ["val.json"]


def test_an_image_that_the_labels_name_from_now_on_counts(labels: Path) -> None:
    before = data_digest(labels)
    (labels.parent / "new.jpg").write_bytes(b"new")
    document = json.loads(labels.read_text())
    labels.write_text(json.dumps(document | {"images": [*document["images"], {"id": 9, "file_name": "new.jpg"}]}))
    after = data_digest(labels)
    assert (before.count, after.count) == (4, 5)
    assert after.images != before.images


def test_names_count_and_not_only_contents(labels: Path) -> None:
    before = data_digest(labels)
    a, b = labels.parent / "a.jpg", labels.parent / "b.jpg"
    a.rename(labels.parent / "c")
    b.rename(a)
    (labels.parent / "c").rename(b)
    assert data_digest(labels).images != before.images


@pytest.mark.parametrize("name", ["{root}/sub/c.jpg", "sub/../sub/c.jpg", "./sub//c.jpg", "../{folder}/sub/c.jpg",
                                  "sub/c.jpg/"])
def test_an_image_is_looked_for_where_its_readers_find_it(labels: Path, name: str) -> None:
    file_name = name.format(root=labels.parent, folder=labels.parent.name)
    person = {"id": 1, "image_id": 1, "keypoints": [1, 1, 2] * 17, "bbox": [0, 0, 4, 4], "area": 9}
    labels.write_text(json.dumps({"images": [{"id": 1, "file_name": file_name, "width": 9, "height": 9}],
                                  "annotations": [person]}))
    before = data_digest(labels)
    assert before.missing == ()
    opened = Path(read_coco(labels, SKELETONS["coco17"]).images[0].path)
    opened.write_bytes(opened.read_bytes() + b" exchanged")
    assert data_digest(labels).images != before.images


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir],
                         ids=["pipe", "device", "folder"])
def test_what_is_no_plain_file_is_refused_and_not_waited_for(labels: Path, make: Callable[[Path], None]) -> None:
    (labels.parent / "b.jpg").unlink()
    make(labels.parent / "b.jpg")
    with pytest.raises(DataError, match=r"b\.jpg: cannot be read \(a folder, a pipe or a device, expected a picture\)"):
        data_digest(labels)


def test_missing_images_are_counted_and_named(labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (labels.parent / "b.jpg").unlink()
    (labels.parent / "nobody.jpg").unlink()
    assert data_digest(labels).missing == ("b.jpg", "nobody.jpg")
    assert capsys.readouterr().err == f"data: {labels}: 2 of 4 images are not there, first b.jpg\n"


@pytest.mark.parametrize("damage", [
    lambda data: b"", lambda data: data[:50], lambda data: data[:-1], lambda data: bytes([data[0] ^ 1]) + data[1:],
    lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]])
def test_a_damaged_cache_is_made_anew(labels: Path, damage: Callable[[bytes], bytes], read: list[str]) -> None:
    sound = data_digest(labels)
    place, = cache_folder().glob("*.json")
    place.write_bytes(damage(place.read_bytes()))
    read.clear()
    assert data_digest(labels) == sound
    assert len(read) == 5
    read.clear()
    assert data_digest(labels) == sound
    assert len(read) == 1


def test_without_a_cache_the_digest_is_the_same(labels: Path, monkeypatch: pytest.MonkeyPatch,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    sound = data_digest(labels)
    monkeypatch.setenv("EDGEKP_CACHE", str(labels / "no folder"))
    assert data_digest(labels) == sound
    assert "set EDGEKP_CACHE to a folder that can" in capsys.readouterr().err


def test_a_user_without_a_home_has_no_cache(
        labels: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    sound = data_digest(labels)
    for name in ("EDGEKP_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)  # a KeyError, as for a number without an account
    assert data_digest(labels) == sound
    assert "so all images are read again by every stage; set EDGEKP_CACHE to a folder that can" in \
        capsys.readouterr().err


@pytest.mark.parametrize("document", ["{}", "[]", '{"images": [{}]}', '{"images": [3]}', '{"images": 3}'])
def test_labels_without_names_are_one_line(labels: Path, document: str) -> None:
    labels.write_text(document)
    with pytest.raises(DataError, match="expected a COCO keypoints file"):
        data_digest(labels)


def test_what_is_no_file_is_one_line(labels: Path) -> None:
    (labels.parent / "a.jpg").unlink()
    (labels.parent / "a.jpg").mkdir()
    with pytest.raises(DataError, match=r"a\.jpg: cannot be read"):
        data_digest(labels)
    with pytest.raises(DataError, match=r"nowhere\.json: cannot be read"):
        data_digest(labels.parent / "nowhere.json")


def test_a_stage_says_which_image_changed(labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def stage() -> bool:
        key = Key("train", 1, {}, data_digest(labels).inputs("val.json"))
        return run_stage(tmp_path / "train", key, lambda folder: (folder / "result").touch())

    assert [stage(), stage()] == [True, False]
    (labels.parent / "b.jpg").write_bytes(b"other pixels")
    assert stage()
    assert "train: running because inputs.images val.json: 1 of 4 differ, first b.jpg\n" in capsys.readouterr().err
    for path in cache_folder().iterdir():
        path.unlink()
    (labels.parent / "b.jpg").write_bytes(b"yet others")
    assert stage()
    assert "inputs.images val.json: " in capsys.readouterr().err
