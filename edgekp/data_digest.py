"""The digest of a data set: of its label file and of every image that this names. Knows no keypoint and no pixel.

Images are read once. Their digests are kept in a cache folder with what the file system says of each file; one whose
size, times and inode are the same is not read again.
"""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256 as new_sha256
from pathlib import Path

from edgekp.atomic import sha256, write_file
from edgekp.changed_files import cache_folder, digest_of, keep
from edgekp.errors import DataError
from edgekp.json_file import read_json
from edgekp.stage import say

READERS = 8  # threads; hashing lets go of Python's lock
SETTLED_NS = 2_000_000_000  # a younger file may change again within one tick of the file system's clock
MISSING = "missing"
SHA256_DIGITS = 64

State = tuple[int, ...]  # size, mtime_ns, ctime_ns and inode


@dataclass(frozen=True)
class Known:
    """What the cache holds of a label file.

    Attributes:
        labels: digest of the label file whose images these are.
        images: state and digest of each image by its name in the label file.
    """

    labels: str
    images: dict[str, tuple[State, str]]


NOTHING = Known("", {})


@dataclass(frozen=True)
class DataDigest:
    """Digests of a data set.

    Attributes:
        labels: of the label file.
        images: of names and bytes of all images.
        missing: names of images that are not there.
        count: of the images that the label file names.
    """

    labels: str
    images: str
    missing: tuple[str, ...]
    count: int

    def inputs(self, name: str) -> dict[str, str]:
        """What a stage's key holds of the data set of that name."""
        return {name: self.labels, f"images {name}": self.images}


def data_digest(labels: Path, images: Path | None = None) -> DataDigest:
    """Digests of a label file and its images, which lie in ``images`` or beside it; missing ones are said.

    Raises:
        DataError: The label file cannot be read, or an image that is there cannot.
    """
    root = images or labels.parent
    place, digest = _place(labels, root), _labels_digest(labels)
    known = _read(place)
    names = known.images if known.labels == digest else _names(labels)
    begun_ns = time.time_ns()
    found = _digests(root, names, known)
    digests = {name: digest for name, (_, digest) in found.items()}
    missing = tuple(name for name, digest in digests.items() if digest == MISSING)
    if missing:
        say(f"data: {labels}: {len(missing)} of {len(digests)} images are not there, first {missing[0]}")
    settled = {name: (state, digest) for name, (state, digest) in found.items()
               if not state or max(state[1:3]) < begun_ns - SETTLED_NS}
    now = Known(digest, found) if len(settled) == len(found) else Known("", settled)
    return DataDigest(digest, _kept(place, known, now, digests), missing, len(digests))


def _kept(place: Path, known: Known, now: Known, digests: dict[str, str]) -> str:
    """The digest of all images; the next run finds it, and what it is made of, in the cache."""
    try:
        if now != known:
            body = json.dumps([now.labels, now.images]).encode()
            write_file(place, new_sha256(body).hexdigest().encode() + body)
        return keep(digests)
    except OSError as error:
        say(f"data: {place.parent} cannot be written ({error.strerror}), so all images are read again by every stage; "
            "set EDGEKP_CACHE to a folder that can")
        return digest_of(digests)


def _place(labels: Path, root: Path) -> Path:
    """One file for each label file and folder of images."""
    name = new_sha256(f"{labels.resolve()}\0{root.resolve()}".encode(errors="surrogateescape")).hexdigest()[:32]
    return cache_folder() / f"{name}.json"


def _read(place: Path) -> Known:
    """What the cache holds; nothing where it was damaged, which is mended by reading the images again."""
    try:
        data = place.read_bytes()
    except OSError:
        return NOTHING
    digest, body = data[:SHA256_DIGITS], data[SHA256_DIGITS:]
    if new_sha256(body).hexdigest().encode() != digest:
        say(f"data: {place} is damaged; all images are read again")
        return NOTHING
    labels, images = json.loads(body)
    return Known(labels, {name: (tuple(state), digest) for name, (state, digest) in images.items()})


def _labels_digest(labels: Path) -> str:
    try:
        return sha256(labels)
    except OSError as error:
        raise DataError(f"{labels}: cannot be read ({error.strerror})") from error


def _names(labels: Path) -> Iterable[str]:
    """Names of all images that a label file lists, with people or without, each once."""
    document = read_json(labels)
    try:
        return dict.fromkeys(str(entry["file_name"]) for entry in document["images"])
    except (LookupError, TypeError) as error:
        raise DataError(f"{labels}: expected a COCO keypoints file whose 'images' have a 'file_name'") from error


def _digests(root: Path, names: Iterable[str], known: Known) -> dict[str, tuple[State, str]]:
    """State and digest of each image; those whose state is the known one are not read."""
    states = {name: _state(root / name) for name in names}  # as all readers have it: a name may be absolute
    found = {name: known.images[name] if name in known.images and known.images[name][0] == state else (state, MISSING)
             for name, state in states.items()}
    to_read = [name for name, (state, digest) in found.items() if state and digest == MISSING]
    with ThreadPoolExecutor(READERS) as readers:
        read = readers.map(lambda name: _image_digest(root / name), to_read)
        return found | {name: (states[name], digest) for name, digest in zip(to_read, read, strict=True)}


def _state(path: Path) -> State:
    """What the file system says of a file; nothing of one that is not there."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise _unreadable(path, OSError("a folder, a pipe or a device, expected a picture"))
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _image_digest(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: cannot be read ({error}); check file_name in the label file")
