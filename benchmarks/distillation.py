"""Does a teacher help? The same student with the same budget and seeds, alone and by each technique of distillation.

Pictures are drawn, the teacher is trained here, students start from fresh weights. Everything lies in
runs/distillation and is made once. A seed gives all arms the same first weights and the same pictures in the same
order, so that what is told is the mean of the paired differences, and their spread.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import nn

from deploy.runtime.torch_session import TorchSession
from edgekp.artifact import boxed_contract, open_artifact
from edgekp.atomic import sha256, write_file
from edgekp.coco import read_coco
from edgekp.preprocess import InputSpec
from edgekp.recipe import CodecChoice, Data, Drawn, Model, Recipe
from edgekp.recipe_augment import Augment
from edgekp.recipe_steps import Distill
from edgekp.recipe_train import Train
from edgekp.skeletons import skeleton_named
from edgekp.stage import Key, run_stage
from eval.ground_truth import read_ground_truth
from eval.metrics import metric_named
from eval.predict import predict_one
from eval.results import lay_beside
from optimize.distill import distill
from optimize.step import Context
from train.dataset import Pool
from train.drawn import write_dataset
from train.models import build, spec_of
from train.models.checkpoint import load_checkpoint, save_checkpoint

VERSION, ROOT, SEEDS = 1, Path("runs/distillation"), (1, 2, 3)
CPU = torch.device("cpu")
ALONE = "labels alone"
Record = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """A teacher, its student, and what is compared.

    Attributes:
        student: recipe of the student; ``train.epochs`` is the budget of every arm.
        number: of the metric ``student.eval.metric``.
    """

    student: Recipe
    teacher: Recipe
    number: str
    arms: tuple[str, ...]


TRAIN = Train(epochs=8, lr=3e-3, warmup_steps=50, ema_decay=0.99, workers=0, precision="fp32", validate_every=1000)
PEOPLE = Recipe("people", Data("coco17", drawn=Drawn("people", 1500, 400)), InputSpec((64, 48)),
                CodecChoice("heatmap", {"sigma": 1.0}),
                Model("hrnet_lite", options={"width": 8, "blocks": 1, "modules": 1}), TRAIN,
                Augment(rotate_deg=15, scale=(0.8, 1.2)))
FACES = Recipe("faces", Data("ibug68", drawn=Drawn("faces", 1000, 300)), InputSpec((64, 64)), CodecChoice("regression"),
               Model("pfld", options={"width": 0.25}), replace(TRAIN, epochs=6, loss="wing"),
               Augment(rotate_deg=20, scale=(0.85, 1.2), shift=0.08))
SUBJECTS = (
    Subject(PEOPLE, replace(PEOPLE, model=Model("hrnet_lite", options={"width": 24}), train=replace(TRAIN, epochs=10)),
            "AP", (ALONE, "output", "feature", "dwpose")),
    Subject(FACES, replace(FACES, model=Model("pfld", options={"width": 0.5}),
                           train=replace(FACES.train, epochs=12)), "nme", (ALONE, "output", "coordinate")))


def records() -> list[Record]:
    """One record for each teacher, and one for each arm of its student."""
    torch.set_num_threads(1)
    return [record for subject in SUBJECTS for record in compared(subject)]


def compared(subject: Subject) -> list[Record]:
    """Train what is missing, seed by seed, and lay the arms beside the one that learns from labels alone."""
    teacher, name = trained(subject, subject.teacher, "teacher", 0), subject.student.name
    values: dict[str, list[float]] = {arm: [] for arm in subject.arms}
    for seed in SEEDS:
        for arm in subject.arms:
            values[arm].append(trained(subject, subject.student, arm, seed, teacher)[1])
    found = [_record(f"{name}: teacher", subject, [teacher[1]]),
             *(_record(f"{name}: {arm}", subject, values[arm], values[ALONE]) for arm in subject.arms)]
    return [record | {"line": line(record)} for record in found]


def _record(name: str, subject: Subject, values: list[float], alone: list[float] | None = None) -> Record:
    gains = [ours - theirs for ours, theirs in zip(values, alone or values, strict=True)]
    return {"name": name, "number": subject.number, "values": values, "mean": mean(values), "spread": spread(values),
            "gain": mean(gains), "gain_spread": spread(gains)}


def spread(values: list[float]) -> float:
    """Standard deviation over the seeds; 0 of a single one."""
    return stdev(values) if len(values) > 1 else 0.0


def line(record: Record) -> str:
    """Mean and standard deviation over the seeds, and those of the paired differences to labels alone."""
    differs = f"   {record['gain']:+.4f} +- {record['gain_spread']:.4f} beside {ALONE}" if record["gain"] else ""
    return f"{record['name']:22} {record['number']:3}  {record['mean']:.4f} +- {record['spread']:.4f}{differs}"


def trained(subject: Subject, recipe: Recipe, arm: str, seed: int,
            teacher: tuple[Path, float] | None = None) -> tuple[Path, float]:
    """The folder of one network's checkpoint and its score; trained unless that was done."""
    recipe = replace(recipe, train=replace(recipe.train, seed=seed))
    folder = ROOT / f"{recipe.name}-{arm.replace(' ', '-')}-{seed}"
    data = drawn(recipe)
    key = Key(f"distillation, {recipe.name}, {arm}, seed {seed}", VERSION,
              {"model": recipe.model, "input": recipe.input, "codec": recipe.codec, "train": recipe.train,
               "augment": recipe.augment},
              {"labels": sha256(data / "train.json")}
              | ({"teacher": sha256(teacher[0] / "manifest.json")} if teacher and arm != ALONE else {}))

    def work(scratch: Path) -> None:
        net = _learnt(recipe, arm, seed, scratch, teacher[0] if teacher else None)
        save_checkpoint(scratch, net, spec_of(recipe), recipe.contract())
        write_file(scratch / "score.json", json.dumps(score_of(scratch, data, subject)) + "\n")

    run_stage(folder, key, work)
    return folder, float(json.loads((folder / "score.json").read_text()))


def _learnt(recipe: Recipe, arm: str, seed: int, scratch: Path, teacher: Path | None) -> nn.Module:
    torch.manual_seed(seed)
    spec = spec_of(recipe)
    save_checkpoint(scratch, build(spec), spec, recipe.contract())
    start, data = load_checkpoint(scratch), drawn(recipe)
    instances = read_coco(data / "train.json", skeleton_named(recipe.data.skeleton)).instances
    context = Context(recipe, [Pool(instances)], [], teacher or scratch, CPU)
    if teacher is None or arm == ALONE:
        return context.fine_tune(start, start.net.requires_grad_(True), arm, recipe.train.epochs, recipe.train.lr)[0]
    technique: Any = arm
    settings = Distill("distill", technique=technique, epochs=recipe.train.epochs, lr=recipe.train.lr)
    return distill(start, settings, context).net


def score_of(folder: Path, data: Path, subject: Subject) -> float:
    """The number of a checkpoint on the validation set."""
    artifact = open_artifact(folder, "checkpoint")
    contract = boxed_contract(artifact, "python -m benchmarks distillation")
    truth = read_ground_truth((data / "val.json").resolve(), contract.skeleton)
    results = predict_one(TorchSession(artifact), contract, truth)
    metric = {"AP": "oks_ap", "nme": "nme"}[subject.number]
    return float(metric_named(metric).measure(lay_beside(truth, results))[subject.number])


def drawn(recipe: Recipe) -> Path:
    """The folder of the drawn pictures and their labels, made once."""
    settings = recipe.data.drawn
    assert settings is not None
    folder = ROOT / "data" / settings.subject
    run_stage(folder, Key(f"distillation, {settings.subject}", VERSION, {"drawn": settings}, {}),
              lambda scratch: write_dataset(scratch, settings))
    return folder
