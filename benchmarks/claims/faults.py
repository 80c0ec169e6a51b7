"""C6, as far as a computer can answer: of faults planted in a data set, how many training takes without a word.

The faults are those of the doctor's own tests, which say how each is made; what they cost a person is not.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.claims.rows import Row, row
from edgekp.coco import read_coco
from edgekp.codecs import build_codec
from edgekp.contract import Contract
from edgekp.errors import EdgekpError
from edgekp.preprocess import InputSpec
from edgekp.recipe_augment import Augment
from edgekp.skeletons import COCO17
from tests.edgekp.doctor.healthy import Case, copy_of, healthy
from tests.edgekp.doctor.planted import FAULTS, Plant
from train.dataset import KeypointDataset

NOTE = ("a share of people's time, which no run can measure, so it is not shown; the number is the share of planted "
        "faults that training takes without a word, and edgekp doctor found {found} of {planted}")


def planted_faults() -> list[Row]:
    """Plant each fault alone, then let training and the doctor look."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "healthy").mkdir()
        sound = healthy(root / "healthy")
        looked = [_look(sound, root / str(number), plant) for number, (_, plant) in enumerate(FAULTS.values())]
    silent, found = (sum(answers) for answers in zip(*looked, strict=True))
    return [row("C6", "faults planted in a data set that training does not notice", silent / len(looked),
                f"share of {len(looked)} faults", "does not hold", n=len(looked), silent=silent,
                found_by_doctor=found, note=NOTE.format(found=found, planted=len(looked)))]


def _look(sound: Case, folder: Path, plant: Plant) -> tuple[bool, bool]:
    """Whether training is silent about one fault, and whether the doctor finds it."""
    folder.mkdir()
    case = copy_of(sound, folder)
    plant(case)
    found = bool(case.examine())  # writes the label files
    return _trains_on(case), found


def _trains_on(case: Case) -> bool:
    """Whether all labels are read, all pictures cropped and all targets encoded without an error."""
    skeleton = case.skeleton or COCO17
    contract = Contract(InputSpec(case.input_hw), build_codec("heatmap", case.input_hw, case.codec), skeleton)
    try:
        for split in ("train", "val"):
            instances = read_coco(case.folder / f"{split}.json", skeleton).instances
            if not all(Path(instance.image.path).is_file() for instance in instances):
                return False  # as train.dataset.read_pools does
            dataset = KeypointDataset(instances, contract, Augment(), seed=0)
            crops = dataset.collate([dataset[0, number, 0] for number in range(len(instances))])
            if isinstance(crops, EdgekpError):
                return False
            dataset.batch(crops)
    except EdgekpError:
        return False
    return True
