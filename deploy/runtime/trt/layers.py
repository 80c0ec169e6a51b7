"""What each layer of an engine computes in, as TensorRT's inspector tells it. Knows no model."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

# How formats are written: "Row major linear FP32" and "Thirty-two wide channel vectorized row major Int8 format" in
# 8.6, "Half" and "Int8" alone in later versions.
TYPES = {"int8": "int8", "fp8": "fp8", "half": "fp16", "fp16": "fp16", "float16": "fp16", "bf16": "bf16",
         "float": "fp32", "fp32": "fp32", "float32": "fp32", "int32": "int32", "int64": "int64", "bool": "bool"}


def layers_of(engine: Any, trt: Any) -> dict[str, str]:
    """The type that each layer reads, by the layer's name; empty where the inspector tells only names."""
    inspector = engine.create_engine_inspector()
    if inspector is None:
        return {}
    try:
        layers = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))["Layers"]
    except (ValueError, KeyError, TypeError):  # a layout that nobody has seen yet is no reason to refuse an engine
        return {}
    return {str(layer["Name"]): _type_of(layer) for layer in layers if isinstance(layer, dict) and "Name" in layer}


def counted(layers: Mapping[str, str]) -> str:
    """For people: ``41 layers int8, 6 fp16``."""
    counts = Counter(layers.values()).most_common()
    return ", ".join(f"{count} {'layers ' if not index else ''}{name}" for index, (name, count) in enumerate(counts))


def _type_of(layer: Mapping[str, Any]) -> str:
    """Of the first input, or of the output where a layer has none."""
    tensors = [tensor for side in ("Inputs", "Outputs") for tensor in layer.get(side) or () if isinstance(tensor, dict)]
    for tensor in tensors:
        text = " ".join(str(value) for key, value in tensor.items() if "datatype" in key.lower())
        found = [TYPES[word] for word in re.findall(r"[a-z]+\d*", text.lower()) if word in TYPES]
        if found:
            return found[0]
    return "unknown"
