"""Inputs and outputs of an ONNX file, read without the onnx package and for every runtime alike. Knows no detector.

The numbers are the fields of ``onnx.proto``, encoded by protobuf: a varint with number and kind, then the value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgekp.errors import ArtifactError

FLOAT32 = 1  # TensorProto.DataType
GRAPH = 7
NODE, INITIALIZER, INPUT, OUTPUT = 1, 5, 11, 12
EXTERNAL_DATA, DATA_LOCATION = 13, 14
WITHIN = {  # fields of each message on the way to a tensor
    "model": {GRAPH: "graph", 20: "training", 25: "function"}, "training": {1: "graph", 2: "graph"},
    "graph": {NODE: "node", INITIALIZER: "tensor", 15: "sparse"}, "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"}, "sparse": {1: "tensor", 2: "tensor"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"}}


@dataclass(frozen=True)
class OnnxHeader:
    """What is written above a graph.

    Attributes:
        inputs: shape of each input by name, without the weights; None for a size that is free.
        element_types: of each input, as in ``TensorProto.DataType``; 0 where it is not a tensor.
        outputs: their names, in order.
        readers: for each input the operators that take it.
    """

    inputs: dict[str, tuple[int | None, ...]]
    element_types: dict[str, int]
    outputs: tuple[str, ...]
    readers: dict[str, frozenset[str]]


def read_onnx_header(model: bytes) -> OnnxHeader:
    """What is written above the graph of a model that is whole in itself.

    Raises:
        ArtifactError: The bytes are not an ONNX model, or its weights are in other files, which a runtime would open
            wherever the model says.
    """
    try:
        if _has_outside_weights(memoryview(model)):
            raise ArtifactError("its weights are in another file; save it again with the weights inside: "
                                "onnx.save(onnx.load(OLD), NEW)")
        graph = [_message(value) for number, value in _fields(memoryview(model)) if number == GRAPH]
        if not graph:
            raise ArtifactError("no graph in it, so no ONNX model; export the detector again")
        return _header_of(list(_fields(graph[0])))
    except (IndexError, UnicodeDecodeError) as error:
        raise ArtifactError("does not read as an ONNX model; it is damaged or of another format") from error


def _has_outside_weights(model: memoryview) -> bool:
    """Whether a tensor anywhere in the model says that its values are elsewhere."""
    waiting = [("model", model)]
    while waiting:
        kind, message = waiting.pop()
        for number, value in _fields(message):
            if kind == "tensor" and (number == EXTERNAL_DATA or (number == DATA_LOCATION and value != 0)):
                return True
            if number in WITHIN.get(kind, {}):
                waiting.append((WITHIN[kind][number], _message(value)))
    return False


def _header_of(graph: list[tuple[int, int | memoryview]]) -> OnnxHeader:
    weights = {_text(_message(value), 8) for number, value in graph if number == INITIALIZER}
    inputs, element_types = {}, {}
    readers: dict[str, set[str]] = {}
    for value in (_message(value) for number, value in graph if number == INPUT):
        name = _text(value, 1)
        if name not in weights:  # older exports list them as inputs, too
            element_types[name], inputs[name] = _type_and_shape(value)
            readers[name] = set()
    for node in (_message(value) for number, value in graph if number == NODE):
        for name in {_decoded(value) for number, value in _fields(node) if number == 1} & readers.keys():
            readers[name].add(_text(node, 4))
    outputs = tuple(_text(_message(value), 1) for number, value in graph if number == OUTPUT)
    return OnnxHeader(inputs, element_types, outputs, {name: frozenset(ops) for name, ops in readers.items()})


def _type_and_shape(value_info: memoryview) -> tuple[int, tuple[int | None, ...]]:
    tensor = _inner(_inner(value_info, 2), 1)
    element_type = next((value for number, value in _fields(tensor) if number == 1), 0)
    sizes = []
    for dim in (_message(value) for number, value in _fields(_inner(tensor, 2)) if number == 1):
        size = next((value for number, value in _fields(dim) if number == 1), 0)
        sizes.append(size if isinstance(size, int) and 0 < size < 2**31 else None)  # -1 and 0 mean free, too
    return element_type if isinstance(element_type, int) else 0, tuple(sizes)


def _inner(message: memoryview, wanted: int) -> memoryview:
    """The message of a field; an empty one where it is missing, as protobuf has it."""
    return next((_message(value) for number, value in _fields(message) if number == wanted), memoryview(b""))


def _text(message: memoryview, wanted: int) -> str:
    return str(_inner(message, wanted), "utf-8")


def _decoded(value: int | memoryview) -> str:
    return str(_message(value), "utf-8")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise IndexError("a number where a message belongs")
    return value


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field; IndexError where it breaks off."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            number, at = _varint(message, at)
            yield key >> 3, number
            continue
        if kind not in (1, 2, 5):
            raise IndexError(f"a field of kind {kind}")
        size, at = _varint(message, at) if kind == 2 else ((8, at) if kind == 1 else (4, at))
        if at + size > len(message):
            raise IndexError("a field beyond the end")
        yield key >> 3, message[at:at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Value and the place behind it: seven bits a byte, the lowest first, as long as the eighth is set."""
    value = shift = 0
    while shift < 64:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise IndexError("a number of more than 64 bits")
