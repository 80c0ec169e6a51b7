"""The faults that are tried and how often. Imports no experiment: each runs in a process of its own."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from benchmarks.faults.outcome import Outcome


@dataclass(frozen=True)
class Experiment:
    """One row of the table.

    Attributes:
        module, function: in this package; the function takes tries and a seed, and gives an ``Outcome``.
        tries: of a full run.
        usual: a function like it that does what the usual libraries do; ``usual_way`` says what that is.
    """

    fault: str
    module: str
    function: str
    tries: int
    usual: str = ""
    usual_way: str = ""

    def run(self, function: str, tries: int, seed: int) -> Outcome:
        """The outcome of one of its functions."""
        outcome: Outcome = getattr(import_module(f"benchmarks.faults.{self.module}"), function)(tries, seed)
        return outcome


EXPERIMENTS = (
    Experiment("jpeg-truncation", "jpeg_damage", "jpeg_truncations", 500, "usual_truncations", "cv2.imread"),
    Experiment("jpeg-bit-flip", "jpeg_damage", "jpeg_bit_flips", 2000, "usual_bit_flips", "cv2.imread"),
    Experiment("checkpoint-bit-flip", "bit_flips", "checkpoint_bit_flips", 1000,
               "usual_checkpoint", "torch.save and torch.load(weights_only=True)"),
    Experiment("onnx-bit-flip", "bit_flips", "onnx_bit_flips", 1000),
    Experiment("tflite-bit-flip", "bit_flips", "tflite_bit_flips", 1000),
    Experiment("engine-bit-flip", "bit_flips", "engine_bit_flips", 1000),
    Experiment("header-bomb", "header_bombs", "header_bombs", 20),
    Experiment("damaged-annotations", "damaged_annotations", "damaged_annotations", 200),
    Experiment("external-data", "external_data", "external_data", 20),
    Experiment("malicious-pickle", "malicious_pickles", "malicious_pickles", 10),
    Experiment("kill-save", "kills_while_saving", "run", 200, "run_in_place", "written in place"),
    Experiment("kill-training", "kills_while_training", "run", 50),
    Experiment("kill-training-together", "kills_while_training_together", "run", 12),
    Experiment("kill-export-optimize", "kills_while_exporting", "run", 20),
    Experiment("disk-full", "disk_full", "run", 20),
    Experiment("permission", "permission_faults", "run", 10),
    Experiment("mismatched-manifest", "mismatched_manifests", "run", 40),
    Experiment("camera", "camera_faults", "camera_faults", 50),
    Experiment("camera-signal", "camera_stops", "camera_signals", 20),
    Experiment("camera-kill", "camera_stops", "camera_kills", 20),
)
