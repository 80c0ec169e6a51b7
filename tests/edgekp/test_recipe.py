"""Recipes: what is written is what runs; a typo never passes as a default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekp.data_folder import locate
from edgekp.errors import DataError, RecipeError
from edgekp.recipe_augment import Augment
from edgekp.recipe_file import load_recipe
from edgekp.recipe_steps import Distill, Prune, Quantize
from edgekp.recipe_train import Train
from edgekp.strict import strict

RECIPE = """
[data]
skeleton = "lsp14"
[data.drawn]
subject = "people"
[input]
input_hw = [128, 96]
[codec]
name = "heatmap"
options = { sigma = 1.5 }
[model]
backbone = "hrnet_lite"
[train]
epochs = 3
lr = 1e-3
[[optimize]]
method = "prune"
epochs = 2
[[optimize]]
method = "distill"
[[optimize]]
method = "quantize"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    return path


def test_what_is_written_is_read_and_the_rest_has_defaults(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == "tiny"
    assert recipe.run_folder == Path("runs/tiny")
    assert recipe.train == Train(epochs=3, lr=1e-3)
    assert recipe.augment == Augment()
    assert recipe.optimize == (Prune("prune", epochs=2), Distill("distill"), Quantize("quantize"))
    contract = recipe.contract()
    assert (contract.input.input_hw, contract.codec.sigma, contract.skeleton.name) == ((128, 96), 1.5, "lsp14")


def test_every_recipe_of_the_project_is_read(repository: Path) -> None:
    names = {recipe.name for recipe in map(load_recipe, sorted((repository / "recipes").glob("*.toml")))}
    assert names >= {"quickstart", "lsp-coco-pose_hrnet-lite", "ibug68-face_mobilefacenet",
                     "coco-pose_hrnet-lite_jetson", "wflw-face_mobilefacenet_jetson"}


@pytest.mark.parametrize(("old", "new", "message"), [
    ("epochs = 3", "epoch = 3", r"no key 'train\.epoch'; did you mean 'epochs'"),
    ("[train]", "[trian]", "no key 'trian'; did you mean 'train'"),
    ("epochs = 3\n", "", "train: lacks epochs"),
    ('skeleton = "lsp14"\n', "", "data: lacks skeleton"),
    ('backbone = "hrnet_lite"', "", "model: lacks backbone"),
    ("epochs = 3", 'epochs = "3"', r"train\.epochs: '3', expected int"),
    ("epochs = 3", "epochs = 3.5", r"train\.epochs: 3\.5, expected int"),
    ("epochs = 3", "epochs = true", r"train\.epochs: True, expected int"),
    ("lr = 1e-3", "lr = true", r"train\.lr: True, expected float"),
    ("lr = 1e-3", 'lr = "1e-3"', r"train\.lr: '1e-3', expected float"),
    ("[128, 96]", "[128]", r"input\.input_hw: \[128\], expected 2 values"),
    ("[128, 96]", "128", r"input\.input_hw: 128, expected a list"),
    ("[128, 96]", "[128, 96.5]", r"input\.input_hw\[1\]: 96\.5, expected int"),
    ("[128, 96]", '[128, 96]\ncolor = "rgb"', r"input\.color: no choice 'rgb'"),
    ('subject = "people"', 'subject = "cats"', r"data\.drawn\.subject: no choice 'cats'"),
    ('method = "distill"', 'method = "distil"', r"optimize\[1\]: no method 'distil'; did you mean 'distill'"),
    ('method = "distill"', "epochs = 3", r"optimize\[1\]: no method 'None'"),
    ("epochs = 2", "ratio = 0.3", r"no key 'optimize\[0\]\.ratio'"),
    ('skeleton = "lsp14"', 'skeleton = "lsp"', "no skeleton 'lsp'; did you mean 'lsp14'"),
    ("epochs = 3", "epochs = 0", r"train\.epochs: 0, expected a number above 0"),
    ("epochs = 3", "epochs = 3\nbatch = 0", r"train\.batch: 0, expected a number above 0"),
    ("epochs = 3", "epochs = 3\nvalidate_every = 0", r"train\.validate_every: 0, expected a number above 0"),
    ("epochs = 3", "epochs = 3\nworkers = -1", r"train\.workers: -1, expected 0 or more"),
    ("lr = 1e-3", "lr = nan", r"train\.lr: nan, expected a number above 0"),
    ('method = "quantize"', 'method = "quantize"\n[export]\nopset = 9', r"export\.opset: 9, expected 13"),
    ('method = "quantize"', 'method = "quantize"\n[gate]\nbudget = 0.0', r"gate\.budget: 0\.0, expected a number"),
    ("epochs = 2", "epochs = 0", r"optimize\.prune\.epochs: 0, expected a number above 0"),
    ("epochs = 2", "macs_reduction = 1", r"optimize\.prune\.macs_reduction: 1\.0, expected a share"),
    ('method = "distill"', 'method = "distill"\nweight = 1.5', r"optimize\.distill\.weight: 1\.5, expected a share"),
    ("[128, 96]", "[0, 96]", r"input\.input_hw: \[0, 96\], expected pixels above 0"),
    ("[128, 96]", "[128, 96]\nstd = [0, 1, 1]", r"input\.std: .*above 0"),
    ("[128, 96]", "[128, 96]\nstd = [nan, 1, 1]", r"input\.std: .*above 0"),
    ("[128, 96]", "[128, 96]\npadding = 0", r"input\.padding: 0\.0, expected a factor above 0"),
    ("[128, 96]", "[128, 96]\npad_value = 256", r"input\.pad_value: 256, expected 0 to 255"),
    ('name = "heatmap"', 'name = "heatmaps"', "no codec 'heatmaps'; did you mean 'heatmap'"),
    ("sigma = 1.5", "sgima = 1.5", "no option of codec 'heatmap' 'sgima'; did you mean 'sigma'"),
    ("sigma = 1.5", 'sigma = "1.5"', "codec.sigma: '1.5', expected a number"),
    ("[128, 96]", "[130, 96]", "codec.stride: 4 does not divide"),
    ('[data.drawn]\nsubject = "people"', "", r"expected either \[data\.drawn\] or both"),
    ("[train]", "[train", "not a TOML file"),
    ("epochs = 3", "epochs = 3\nepochs = 4", "not a TOML file"),
    ("[input]", "[data.drawn]\n[input]", "not a TOML file"),
    ("[model]", 'optimise = 3\n[model]', r"no key 'codec\.optimise'"),
])
def test_a_recipe_with_a_mistake_is_refused_by_its_place(path: Path, old: str, new: str, message: str) -> None:
    assert old in RECIPE
    path.write_text(RECIPE.replace(old, new, 1))
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value)


def test_a_recipe_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such recipe"):
        load_recipe(tmp_path / "nothing.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="not a TOML file"):
        load_recipe(tmp_path / "bytes.toml")
    with pytest.raises(RecipeError, match=r"cannot be read \(Is a directory\)"):
        load_recipe(tmp_path)


@pytest.mark.parametrize(("override", "expected"), [
    ("train.lr=0.5", 0.5), ("train.lr=1e-4", 1e-4), ("train.lr=1", 1.0),
])
def test_an_override_changes_one_setting(path: Path, override: str, expected: float) -> None:
    assert load_recipe(path, [override]).train == Train(epochs=3, lr=expected)


def test_overrides_reach_tables_words_steps_and_sections_that_the_file_lacks(path: Path) -> None:
    recipe = load_recipe(path, ["codec.options.sigma=2.5", "data.drawn.subject=faces", "optimize.prune.epochs=9",
                                "augment.scale=[1, 1]", "train.loss=a=b", "name=other"])
    assert recipe.build_codec().sigma == 2.5  # type: ignore[union-attr]
    assert recipe.data.drawn is not None
    assert recipe.data.drawn.subject == "faces"
    assert recipe.optimize[0] == Prune("prune", epochs=9)
    assert recipe.augment.scale == (1.0, 1.0)
    assert recipe.train.loss == "a=b"
    assert recipe.run_folder == Path("runs/other")


@pytest.mark.parametrize(("override", "message"), [
    ("train.epoch=3", "did you mean 'epochs'"),
    ("train.epochs", r"expected section\.key=value"),
    ("=3", r"expected section\.key=value"),
    ("train.epochs=many", "'many', expected int"),
    ("train.epochs.more=3", "there is no 'epochs'"),
    ("optimize.pruning.epochs=3", "there is no 'pruning'"),
    ("optimize.epochs=3", "name a step by its method"),
    ("trian.epochs=3", "no key 'trian'"),
])
def test_an_override_with_a_mistake_is_refused(path: Path, override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(path, [override])


@given(values=st.fixed_dictionaries({}, optional={
    "flip_p": st.floats(0, 1), "shift": st.floats(0, 1), "rotate_deg": st.integers(0, 180),
    "scale": st.tuples(st.floats(0.1, 1), st.floats(1, 9)).map(list)}))
def test_strict_keeps_every_value_that_fits(values: dict[str, Any]) -> None:
    augment = strict(Augment, values, "augment")
    for name, value in values.items():
        assert getattr(augment, name) == (tuple(value) if isinstance(value, list) else value)
        assert not isinstance(getattr(augment, name), int)  # an integer where a float is expected becomes one


@given(key=st.text(min_size=1).filter(lambda key: key not in Augment.__dataclass_fields__))
def test_strict_refuses_every_key_that_is_not_known(key: str) -> None:
    with pytest.raises(RecipeError, match="no key"):
        strict(Augment, {key: 1.0}, "augment")


def test_labels_are_looked_for_in_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKP_DATA", str(tmp_path))
    (tmp_path / "a.json").touch()
    assert locate("a.json") == tmp_path / "a.json"
    with pytest.raises(DataError, match=r"b\.json: not there; set EDGEKP_DATA .* Ask Bob\."):
        locate("b.json", "Ask Bob.")
