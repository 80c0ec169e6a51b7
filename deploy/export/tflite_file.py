"""A TFLite file put together one operator after the other. Knows the format, but neither torch nor keypoints.

The file is written by its schema, not by TensorFlow's converter, because a converter chooses scales, fusions and
layouts of its own, and here all of them are given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from edgekp.errors import ArtifactError
from edgekp.sample import Float, Int

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
ALIGNMENT = 16
TYPES = {"float32": "FLOAT32", "float16": "FLOAT16", "int8": "INT8", "int32": "INT32"}


class Kind(NamedTuple):
    """What an operator's options are called, and its version for float and for int8 values."""

    options: str = ""
    version: int = 1
    int8_version: int = 2


KINDS = {
    "ADD": Kind("AddOptions"), "MUL": Kind("MulOptions"), "DIV": Kind("DivOptions"), "SUB": Kind("SubOptions"),
    "CONV_2D": Kind("Conv2DOptions", 1, 3), "DEPTHWISE_CONV_2D": Kind("DepthwiseConv2DOptions", 2, 3),
    "TRANSPOSE_CONV": Kind("TransposeConvOptions", 3, 3), "FULLY_CONNECTED": Kind("FullyConnectedOptions", 1, 4),
    "BATCH_MATMUL": Kind("BatchMatMulOptions"), "CONCATENATION": Kind("ConcatenationOptions"),
    "SPLIT": Kind("SplitOptions"), "SLICE": Kind("SliceOptions"), "PAD": Kind("PadOptions"),
    "PADV2": Kind("PadV2Options"), "RESHAPE": Kind("ReshapeOptions", 1, 1), "TRANSPOSE": Kind("TransposeOptions"),
    "MAX_POOL_2D": Kind("Pool2DOptions"), "AVERAGE_POOL_2D": Kind("Pool2DOptions"), "MEAN": Kind("ReducerOptions"),
    "SUM": Kind("ReducerOptions"), "REDUCE_MAX": Kind("ReducerOptions"),
    "RESIZE_BILINEAR": Kind("ResizeBilinearOptions", 3, 3),
    "RESIZE_NEAREST_NEIGHBOR": Kind("ResizeNearestNeighborOptions", 3, 3),
    "RELU": Kind(), "RELU6": Kind(), "PRELU": Kind(), "HARD_SWISH": Kind(), "LOGISTIC": Kind(), "SQRT": Kind(),
    "MAXIMUM": Kind("MaximumMinimumOptions"), "SOFTMAX": Kind("SoftmaxOptions"),
    "QUANTIZE": Kind("QuantizeOptions", 1, 2), "DEQUANTIZE": Kind("DequantizeOptions", 3, 2)}


@dataclass(frozen=True)
class Tensor:
    """A value of the file: its place, shape and type; ``scale`` where it is an int8 activation (zero point 0)."""

    index: int
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None


class _AlignedBuffer:
    """Bytes at a multiple of 16, as the schema asks; the generated code for Python forgets it."""

    def __init__(self, schema: Any, data: bytes) -> None:
        self.schema, self.data = schema, data

    def Pack(self, builder: Any) -> Any:
        builder.StartVector(1, len(self.data), ALIGNMENT)
        builder.head -= len(self.data)
        builder.Bytes[builder.head:builder.head + len(self.data)] = self.data
        vector = builder.EndVector()
        self.schema.BufferStart(builder)
        self.schema.BufferAddData(builder, vector)
        return self.schema.BufferEnd(builder)


class TFLiteFile:
    """Tensors and operators of one graph.

    Raises:
        ArtifactError: The package with the format's schema is not installed.
    """

    def __init__(self) -> None:
        try:
            from ai_edge_litert import schema_py_generated
        except ImportError as error:
            raise ArtifactError("TFLite files need the package ai-edge-litert, which is not installed; "
                                "run: pip install 'edgekp[tflite]'") from error
        self._schema: Any = schema_py_generated
        self._tensors: list[Any] = []
        self._data: list[bytes | None] = []
        self._operators: list[tuple[str, list[int], list[int], Any, int]] = []

    def constant(self, array: Float | Int, name: str, scales: Float | None = None, axis: int = 0) -> Tensor:
        """Numbers of the model, with one scale per channel along ``axis`` where they are quantized."""
        return self._add(array.shape, str(array.dtype), name, scales, axis, array.tobytes())

    def activation(self, shape: Sequence[int], name: str, scale: float | None = None) -> Tensor:
        """What an operator writes: float32, or int8 with a scale and zero point 0."""
        scales = None if scale is None else np.array([scale], np.float32)
        return self._add(tuple(shape), "float32" if scale is None else "int8", name, scales)

    def rename(self, tensor: Tensor, name: str) -> None:
        self._tensors[tensor.index].name = name

    def operator(self, kind: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], **options: Any) -> None:
        """Append an operator; ``options`` are fields of its options in the format's schema."""
        names, version, int8_version = KINDS[kind]
        fields = getattr(self._schema, f"{names}T")() if names else None
        for name, value in options.items():
            assert hasattr(fields, name), f"{names} has no {name}"
            setattr(fields, name, value)
        quantized = any(tensor.dtype == "int8" for tensor in inputs)
        self._operators.append((kind, [tensor.index for tensor in inputs], [tensor.index for tensor in outputs],
                                fields, int8_version if quantized else version))

    def to_bytes(self, inputs: Iterable[Tensor], outputs: Iterable[Tensor]) -> bytes:
        """The file with what its outputs need and nothing else."""
        import flatbuffers
        schema, first, last = self._schema, [t.index for t in inputs], [t.index for t in outputs]
        kept = self._needed_for(last)
        used = sorted({*first, *last, *(i for operator in kept for i in (*operator[1], *operator[2]))})
        place = {index: position for position, index in enumerate(used)}
        graph, model = schema.SubGraphT(), schema.ModelT()
        model.version, model.description = SCHEMA_VERSION, "edgekp"
        model.subgraphs, model.buffers, model.operatorCodes = [graph], [schema.BufferT()], []  # buffer 0: no data
        graph.tensors, graph.operators = [self._tensors[index] for index in used], []
        graph.inputs, graph.outputs = [place[i] for i in first], [place[i] for i in last]
        for index in used:
            if (data := self._data[index]) is not None:
                self._tensors[index].buffer = len(model.buffers)
                model.buffers.append(_AlignedBuffer(schema, data))
        codes: dict[tuple[str, int], int] = {}
        for kind, reads, writes, fields, version in kept:
            operator = schema.OperatorT()
            operator.opcodeIndex = codes.setdefault((kind, version), len(codes))
            operator.inputs, operator.outputs = [place[i] for i in reads], [place[i] for i in writes]
            if fields is not None:
                operator.builtinOptionsType = getattr(schema.BuiltinOptions, KINDS[kind].options)
                operator.builtinOptions = fields
            graph.operators.append(operator)
        model.operatorCodes = [self._code(kind, version) for kind, version in codes]
        builder = flatbuffers.Builder(sum(len(data or b"") for data in self._data) + 1024)
        builder.Finish(model.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())

    def _needed_for(self, outputs: list[int]) -> list[tuple[str, list[int], list[int], Any, int]]:
        needed, kept = set(outputs), []
        for operator in reversed(self._operators):
            if needed.intersection(operator[2]):
                needed.update(operator[1])
                kept.append(operator)
        return kept[::-1]

    def _code(self, kind: str, version: int) -> Any:
        code = self._schema.OperatorCodeT()
        code.builtinCode = getattr(self._schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), version
        return code

    def _add(self, shape: tuple[int, ...], dtype: str, name: str, scales: Float | None = None, axis: int = 0,
             data: bytes | None = None) -> Tensor:
        tensor = self._schema.TensorT()
        tensor.shape, tensor.name, tensor.buffer = [int(side) for side in shape], name, 0
        tensor.type = getattr(self._schema.TensorType, TYPES[dtype])
        if scales is not None:
            tensor.quantization = self._schema.QuantizationParametersT()
            tensor.quantization.scale = np.asarray(scales, np.float32)
            tensor.quantization.zeroPoint = np.zeros(len(scales), np.int64)
            tensor.quantization.quantizedDimension = axis
        self._tensors.append(tensor)
        self._data.append(data)
        scale = float(scales[0]) if scales is not None and data is None else None
        return Tensor(len(self._tensors) - 1, tuple(shape), dtype, scale)
