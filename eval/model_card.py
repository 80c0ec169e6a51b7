"""The model card of a run: what the final model is, how to feed it, what was measured, and what nobody knows of it.

The sections follow Mitchell et al., "Model Cards for Model Reporting", 2019, as far as a run's files can fill them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from edgekp.artifact import Artifact, open_artifact
from edgekp.codecs import codec_to_json
from edgekp.contract import AnyContract, SceneContract
from edgekp.stage import require_stage
from eval.run_files import RunFiles, read_run
from eval.table import MISSING, SHOWN
from eval.verdict import write_output

TEMPLATE = "model_card_template.md"
FEW_INSTANCES = 500  # below, the interval of an accuracy difference is wider than a point


def write_model_card(run: Path, out: Path) -> None:
    """Write the card of the final model of ``runs/R`` as Markdown.

    Raises:
        StageError: The run has not been exported or evaluated.
    """
    write_output(out, render(read_run(run)))


def render(files: RunFiles) -> str:
    """The whole card."""
    trained = open_artifact(require_stage(files.folder / "train", "make train"))
    exported = require_stage(files.folder / "export" / files.target, f"make export TARGET={files.target}")
    artifact = open_artifact(exported)
    pages = Environment(loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True,
                        lstrip_blocks=True, keep_trailing_newline=True)
    return pages.get_template(TEMPLATE).render(
        name=files.folder.resolve().name, purpose=_purpose(artifact.contract),
        model=list(_model(files, trained, artifact)), feeding=list(_feeding(artifact.contract)),
        data=list(_data(files)), results=[_results(files, name) for name in files.data_names],
        machine=files.records[0]["machine"], gates=_gates(files), limits=list(_limits(files)))


def _purpose(contract: AnyContract) -> str:
    if isinstance(contract, SceneContract):
        return (f"Finds the people on a whole image and locates {len(contract.skeleton)} keypoints of each. It does "
                "not say who they are, or what they do.")
    return (f"Locates {len(contract.skeleton)} keypoints of one person, face or object inside a box that a "
            "detector or tracker gives. It does not say whether there is one, who it is, or what it does.")


def _model(files: RunFiles, trained: Artifact, artifact: Artifact) -> Iterator[tuple[str, Any]]:
    spec, facts = trained.model["spec"], artifact.model
    options = ", ".join(f"{name} {value}" for name, value in spec["options"].items())
    yield "architecture", f"{spec['backbone']}{f' ({options})' if options else ''} with the head {spec['head']}"
    yield "made by", " → ".join(files.models)
    yield "keypoints", f"{len(artifact.contract.skeleton)}, skeleton `{artifact.contract.skeleton.name}`"
    yield "size", (f"{artifact.size_bytes / 1e6:.2f} MB, {facts['parameters']:,} parameters, "
                   f"{facts['macs'] / 1e6:.1f} million multiply-adds, {facts['precision']}")
    yield "file", f"`{artifact.model_path.name}` for target {files.target}"
    yield "sha256", f"`{artifact.files[artifact.model_path.name]}`"


def _feeding(contract: AnyContract) -> Iterator[tuple[str, Any]]:
    """Preprocessing and decoding, as far as a reader needs them to get the same numbers."""
    spec, codec = contract.input, codec_to_json(contract.codec)
    yield "input", f"1 x 3 x {spec.input_hw[0]} x {spec.input_hw[1]}, float32, {spec.color}"
    yield "normalisation", f"(pixel - {list(spec.mean)}) / {list(spec.std)}, pixels of 0 to 255"
    looks_at = "the whole image" if isinstance(contract, SceneContract) else "the box"
    yield "crop", (f"{looks_at}, enlarged {spec.padding} times and to the input's aspect ratio, {spec.resize}, "
                   f"{spec.pad_value} outside of the image")
    yield "outputs", ", ".join(f"`{name}`" for name in contract.outputs)
    yield "decoding", ", ".join([codec.pop("name"), *(f"{name} {value}" for name, value in codec.items())])


def _data(files: RunFiles) -> Iterator[tuple[str, str, str]]:
    """What each stage read, with its digest, from the stages' keys."""
    for stage, use in (("train", "training"), ("eval", "measuring")):
        inputs = files.keys.get(stage, {}).get("inputs", {})
        for name, digest in inputs.items():
            if not name.startswith("model "):
                yield use, name.removeprefix("data "), f"`{digest[:16]}`"


def _results(files: RunFiles, data: str) -> dict[str, Any]:
    """One table: a row a model."""
    records = files.records_on(data)
    shown = [name for name in SHOWN if any(name in record["metrics"] for record in records)]
    rows = [[record["model"], *(_rounded(record["metrics"].get(name)) for name in shown),
             f"{record['size_bytes'] / 1e6:.2f} MB", f"{record['latency_ms']['p50']:.2f} ms"] for record in records]
    return {"data": data, "instances": records[0]["instances"], "head": ["model", *shown, "size", "latency p50"],
            "rows": rows}


def _rounded(value: float | None) -> str:
    return MISSING if value is None else f"{value:.4f}"


def _gates(files: RunFiles) -> list[tuple[str, ...]]:
    found = files.gates["gates"] if files.gates else []
    return [tuple(str(gate[name]).replace("|", "\\|") for name in ("gate", "subject", "change", "outcome", "reason"))
            for gate in found if gate["binding"]]


def _limits(files: RunFiles) -> Iterator[str]:
    """What the run's own files show to be unknown."""
    if files.data.drawn:
        yield "Trained and measured on drawn pictures alone: nothing is known of photographs."
    few = [f"{name} ({files.records_on(name)[0]['instances']})" for name in files.data_names
           if files.records_on(name)[0]["instances"] < FEW_INSTANCES]
    if few:
        yield f"Fewer than {FEW_INSTANCES} instances in {', '.join(few)}: differences of a point are within chance."
    weak = [entry.labels for entry in files.data.train if entry.weak]
    if weak:
        yield f"Part of the training labels are of lesser quality: {', '.join(weak)}."
    if files.gates is None:
        yield "No gate has judged it."
    yield "Trained once, with one seed; another seed would give somewhat other numbers."
    yield "Age, skin tone, clothing, light and camera are as the data has them; no label says, so none was measured."
