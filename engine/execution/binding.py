"""How a session's tensors are bound to a device, and for which numbers of rows a CUDA graph is captured. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from engine.errors import ModelLoadError, quoted
from engine.execution.declaration import CudaSpec, ProviderSpec, declared_by
from engine.servables.signature import ANY, Signature, TensorSpec
from engine.tensor import BF16, BYTES, Array


@dataclass(frozen=True, slots=True)
class Buffer:
    """A tensor that stays where it is."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]


@dataclass(frozen=True, slots=True)
class Capture:
    """What one CUDA graph reads and writes. `rows`: of it, where it is `batched`: fewer are padded up to them."""

    rows: int
    inputs: Mapping[str, Buffer]
    outputs: Mapping[str, Buffer]
    batched: bool

    def takes(self, feeds: Mapping[str, Array]) -> bool:
        """Whether it computes `feeds`, of as many rows as it has or fewer. No rows are none of its."""
        if feeds.keys() != self.inputs.keys():
            return False
        if any(each.dtype != self.inputs[name].dtype for name, each in feeds.items()):
            return False
        if not self.batched:
            return all(each.shape == self.inputs[name].shape for name, each in feeds.items())
        if any(each.shape[1:] != self.inputs[name].shape[1:] for name, each in feeds.items()):
            return False
        rows = {each.shape[0] if each.ndim else 0 for each in feeds.values()}
        return len(rows) == 1 and 1 <= max(rows) <= self.rows


@dataclass(frozen=True, slots=True)
class Binding:
    """Where a session's outputs are bound, and the CUDA graphs that are captured for it, the least first."""

    device: Literal["cpu", "cuda"]
    device_id: int = 0
    captures: tuple[Capture, ...] = ()


def binding_of(providers: Sequence[str | ProviderSpec], signature: Signature, rows_max: int) -> Binding | None:
    """Of a session that works on `providers`; None where it is not to be bound: on a CPU, or where it was declared so.

    Strings cannot be bound, and numpy has no BF16: sessions with one of them are not bound either. Raises ModelLoadError where
    CUDA graphs are declared that cannot be: no size but the rows of a batch may vary, and no batch has more than `rows_max`.
    """
    spec = next((found for each in providers if (found := declared_by(each)) is not None), None)
    options = None if spec is None else spec.cuda or spec.tensorrt
    if options is None or not options.io_binding:
        return None
    rows = options.graph_rows if isinstance(options, CudaSpec) else ()
    unbound = [each for each in (*signature.inputs, *signature.outputs) if each.datatype in (BYTES, BF16)]
    if unbound and rows:
        raise ModelLoadError(f"cuda.graph_rows: {unbound[0].datatype} of {quoted(unbound[0].name)} cannot be bound")
    if unbound:
        return None
    return Binding("cuda", options.device_id, captures_of(signature, rows, rows_max))


def captures_of(signature: Signature, rows: Sequence[int], rows_max: int) -> tuple[Capture, ...]:
    """One for each of `rows`, the least first. Raises ModelLoadError as `binding_of`."""
    if not rows:
        return ()
    allowed = rows_max if signature.batchable else 1
    if max(rows) > allowed:
        limit = f"a batch has at most {allowed} rows" if signature.batchable else "the model takes no batches: give [1]"
        raise ModelLoadError(f"cuda.graph_rows: {max(rows)}, but {limit}")
    for each in (*signature.inputs, *signature.outputs):
        if ANY in (each.shape[1:] if signature.batchable else each.shape):
            raise ModelLoadError(
                f"cuda.graph_rows: {quoted(each.name)} has shape {list(each.shape)}, but in a CUDA graph every size is "
                "fixed but the rows of a batch"
            )
    return tuple(
        Capture(
            each,
            _buffers(signature.inputs, each, signature.batchable),
            _buffers(signature.outputs, each, signature.batchable),
            signature.batchable,
        )
        for each in sorted(rows)
    )


def _buffers(specs: Sequence[TensorSpec], rows: int, batched: bool) -> dict[str, Buffer]:
    return {
        each.name: Buffer((rows, *each.shape[1:]) if batched else each.shape, each.datatype.dtype) for each in specs
    }


def capture_for(captures: Sequence[Capture], feeds: Mapping[str, Array]) -> int | None:
    """The index of the least one that takes `feeds`; None: they are run without a graph."""
    return next((index for index, each in enumerate(captures) if each.takes(feeds)), None)


def padded_into(buffer: Array, array: Array) -> None:
    """Fills `buffer` with `array`, and what it has more of rows with the last one of `array`: values the model can take, as zeros
    may not be, and nobody else's."""
    rows = array.shape[0] if array.ndim else 0
    if buffer.shape == array.shape:
        buffer[...] = array
        return
    buffer[:rows] = array
    buffer[rows:] = array[-1]
