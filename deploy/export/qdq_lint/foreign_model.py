"""The door for ONNX files of others: sizes, structure and outside weights are checked before anything is believed.

Weights may lie beside a model, as torch.onnx.export writes large ones. They are read by name here, never by the onnx
package, and only from plain files in the model's own folder. Knows no rule of the linter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto

from edgekp.errors import ArtifactError
from edgekp.plain_file import read_plain

LARGEST_BYTES = 1 << 30  # of a model with its outside weights; a graph in memory takes several times that
ENTRIES = {"location", "offset", "length", "checksum"}


def read_model(path: Path) -> onnx.ModelProto:
    """A model from its file, weights and all.

    Raises:
        ArtifactError: No such file, not a whole ONNX model, too large, or with weights outside of its folder.
    """
    try:
        data = read_plain(path, LARGEST_BYTES)
        model = onnx.load_from_string(data)
        if take_in_weights(path, model, LARGEST_BYTES - len(data)):
            data = model.SerializeToString()
        onnx.checker.check_model(data)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}); "
                            "expected an .onnx file or an artifact folder") from error
    except (DecodeError, onnx.checker.ValidationError, UnicodeDecodeError) as error:
        reason = (str(error).strip().splitlines() or ["it is empty"])[0]
        raise ArtifactError(f"{path}: no usable ONNX model ({reason}); "
                            "expected an .onnx file or an artifact folder") from error
    return model


@contextmanager
def graph_of(path: Path) -> Iterator[None]:
    """For all that looks into the graph of a model: the onnx package passes graphs that no runtime would take.

    Its own full check would refuse them, but ends the process with some (a Conv of 3 axes with weights of 4).
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{path}: no usable ONNX graph ({type(error).__name__}: {error}); export it again, and if "
                            "ONNX Runtime takes it, report this") from error


def take_in_weights(path: Path, model: onnx.ModelProto, most_bytes: int) -> int:
    """Replace what tensors say about outside files by the files' bytes; how many tensors that were.

    Raises:
        ArtifactError: A tensor names a file that is not a plain one of the model's folder, or bytes beyond its end.
    """
    files: dict[str, bytes] = {}
    count, most_beside = 0, most_bytes
    for tensor in tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL and not tensor.external_data:
            continue
        where = f"{path}: tensor '{tensor.name[:40]}'"
        entries = _entries(where, tensor)
        name = _name_inside(where, entries.get("location", ""))
        if name not in files:
            files[name] = _content(where, path.parent, name, most_beside)
            most_beside -= len(files[name])
        tensor.raw_data = _part(where, tensor, files[name], entries)
        most_bytes -= len(tensor.raw_data)
        if most_bytes < 0:
            raise ArtifactError(f"{path}: with the weights beside it larger than {LARGEST_BYTES >> 20} MB; "
                                "use a smaller model")
        del tensor.external_data[:]
        tensor.data_location = TensorProto.DEFAULT
        count += 1
    return count


def tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Every tensor of a model: weights, attributes, subgraphs, sparse ones, functions and training graphs."""
    graphs = [model.graph, *(graph for info in model.training_info for graph in (info.initialization, info.algorithm))]
    for graph in graphs:
        yield from _of_graph(graph)
    for function in model.functions:
        yield from _of_nodes(function.node)
        yield from _of_attributes(function.attribute_proto)


def _of_graph(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterator[NodeProto]) -> Iterator[TensorProto]:
    for node in nodes:
        yield from _of_attributes(node.attribute)


def _of_attributes(attributes: Iterator[AttributeProto]) -> Iterator[TensorProto]:
    for attribute in attributes:
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
            yield from _of_graph(graph)


def _entries(where: str, tensor: TensorProto) -> dict[str, str]:
    keys = [entry.key for entry in tensor.external_data]
    if len(set(keys)) != len(keys) or not set(keys) <= ENTRIES:
        raise ArtifactError(f"{where}: its outside weights are described by {', '.join(keys)[:80]}; expected each of "
                            f"{', '.join(sorted(ENTRIES))} at most once")
    return {entry.key: entry.value for entry in tensor.external_data}


def _name_inside(where: str, location: str) -> str:
    """The location, if it is a plain relative path that every system reads alike."""
    path = PurePosixPath(location)
    if (not path.name or path.is_absolute() or ".." in location.split("/") or set(location) & set("\\:%\0")
            or not location.isprintable()):
        raise ArtifactError(f"{where}: its weights are in {location[:60]!r}, expected a file in the model's folder; "
                            "save the model again in one file: onnx.save(onnx.load(...), ...)")
    return str(path)


def _content(where: str, folder: Path, name: str, most_bytes: int) -> bytes:
    """The bytes of a plain file below the folder, without following a link on the way."""
    path = folder / name
    below = [folder.joinpath(*Path(name).parts[:depth]) for depth in range(1, len(Path(name).parts) + 1)]
    try:
        if any(each.is_symlink() for each in below) or (path.is_file() and path.stat().st_nlink > 1):
            raise ArtifactError(f"{where}: its weights are in '{name}', a link to somewhere else; "
                                "copy the file itself beside the model")
        return read_plain(path, most_bytes)
    except OSError as error:
        raise ArtifactError(f"{where}: its weights are in '{name}', which cannot be read ({error.strerror}); "
                            "copy the file beside the model") from error


def _part(where: str, tensor: TensorProto, content: bytes, entries: dict[str, str]) -> bytes:
    """The tensor's bytes of the file; as many as its shape needs."""
    offset, length = (_number(where, entries.get(key, default))
                      for key, default in (("offset", "0"), ("length", "-")))
    if offset is None or offset > len(content):
        raise ArtifactError(f"{where}: begins at byte {entries.get('offset', '')[:20]} of {len(content)}; "
                            "export the model again")
    length = len(content) - offset if length is None else length
    bits = _bits(tensor.data_type)
    expected = (math.prod(tensor.dims) * bits + 7) // 8
    if min(tensor.dims, default=0) < 0 or not bits or length != expected or offset + length > len(content):
        raise ArtifactError(f"{where}: {length} bytes from {offset} of {len(content)} for the shape "
                            f"{list(tensor.dims)[:8]}, expected {expected}; the file beside the model is cut short, "
                            "or belongs to another one")
    return content[offset:offset + length]


def _number(where: str, text: str) -> int | None:
    if text == "-":
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise ArtifactError(f"{where}: offset or length {text[:20]!r}, expected a number of bytes")
    return int(text)


def _bits(data_type: int) -> int:
    """Of one element; 0 for texts and types that are not known."""
    if data_type in (TensorProto.UINT4, TensorProto.INT4, TensorProto.FLOAT4E2M1):
        return 4
    try:
        return 0 if data_type == TensorProto.STRING else int(
            onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize) * 8
    except KeyError:
        return 0
