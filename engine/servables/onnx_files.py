"""Which files an ONNX model is kept in. One whose data would be read from outside its own folder is refused before ONNX Runtime
sees it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from engine.errors import ModelLoadError, quoted

_PIECE_BYTES: Final = 1 << 20


def external_data(path: Path) -> list[Path]:
    """The files beside a model file that have data of it. Refuses one whose data lies outside the folder the file is in. Reads
    the graph only.

    Parsing holds the GIL for as long as it takes, 70 ms in 200 MB, which callers of other models would feel: a file
    without the word that every reference to external data contains is not parsed.
    """
    try:
        if not _contains(path, b"location"):
            return []
    except OSError as error:
        raise ModelLoadError(f"{path.name}: cannot be read: {error.strerror}") from error
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        line = str(error).strip().partition("\n")[0][:500]
        raise ModelLoadError(f"{path.name}: not an ONNX file: {line}") from error
    folder, found = path.parent.resolve(), set[Path]()
    for tensor in _tensors(model.graph, model.functions):
        for entry in tensor.external_data:
            if entry.key != "location":
                continue
            where = f"{path.name}: tensor {quoted(tensor.name)} keeps its data in {quoted(entry.value)}"
            file = Path(os.path.realpath(folder / entry.value))
            if not file.is_relative_to(folder):
                raise ModelLoadError(f"{where}, outside the model's folder")
            if not file.is_file():  # ONNX Runtime takes some locations for addresses in memory
                raise ModelLoadError(f"{where}, which is no file")
            found.add(file)
    return sorted(found)


def _contains(path: Path, word: bytes) -> bool:
    """Whether `word` is in the file, read in pieces that each hold the GIL for well under a millisecond."""
    tail = b""
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            if word in tail + piece:
                return True
            tail = piece[-len(word) :]
    return False


def _tensors(graph: Any, functions: Sequence[Any]) -> Iterator[Any]:  # noqa: ANN401  onnx protobuf messages
    pending = [graph]
    nodes = [node for function in functions for node in function.node]
    while pending or nodes:
        if pending:
            graph = pending.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes.extend(graph.node)
        for attribute in (each for node in nodes for each in node.attribute):
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            pending.extend((*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs))
        nodes = []
