"""What messages to and from a Triton have in common that are alike but for their tensors' contents: only these are written, or
read, each time. It knows no protobuf library; the encoding is protobuf's."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from engine.errors import InvalidArgument
from engine.servables.servable import Tensors
from engine.servables.signature import TensorSpec
from engine.tensor import Tensor

RAW_INPUTS, _PARAMETERS = b"\x3a", b"\x22"
"""Fields 7 and 4 of ModelInferRequest, length-delimited."""
_INT64 = b"\x10"
RAW_OUTPUTS = b"\x32"
"""Field 6 of ModelInferResponse, length-delimited."""


def varint(value: int) -> bytes:
    """A number above or at zero as protobuf writes it."""
    if value < 128:
        return bytes([value])
    parts = bytearray()
    while value >= 128:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def timeout_parameter(micros: int) -> bytes:
    """Triton's own `timeout`, as an entry of a request's parameters."""
    value = _INT64 + varint(micros)
    entry = b"\x0a\x07timeout\x12" + varint(len(value)) + value
    return _PARAMETERS + varint(len(entry)) + entry


class RequestForm:
    """All of the requests of one layout but their tensors' contents."""

    __slots__ = ("_first", "_head", "_prefixes", "_size")

    def __init__(self, head: bytes, sizes: Sequence[int]) -> None:
        """`head`: the message up to its tensors, whose contents have so many bytes."""
        self._head, self._prefixes = head, [RAW_INPUTS + varint(size) for size in sizes]
        self._size = len(head) + sum(map(len, self._prefixes)) + sum(sizes)
        self._first = b"\0" + self._size.to_bytes(4, "big") + head

    def joined(self, inputs: Tensors, timeout_us: int | None) -> bytes:
        """The framed request."""
        if timeout_us is None:
            parts = [self._first]
        else:
            timeout = timeout_parameter(timeout_us)
            parts = [b"\0", (self._size + len(timeout)).to_bytes(4, "big"), self._head, timeout]
        for prefix, each in zip(self._prefixes, inputs.values(), strict=True):
            parts += (prefix, each.array.tobytes())
        return b"".join(parts)


class AnswerForm:
    """What answers have in common that are alike but for the contents of their tensors: Triton writes those last, so that all
    before them, and the lengths between them, are the same bytes."""

    __slots__ = ("_fixed", "_split", "_tensors")

    def __init__(self, head: bytes, tensors: Sequence[tuple[TensorSpec, tuple[int, ...], int]]) -> None:
        """`head`: all before the first tensor's contents; `tensors`: each with its shape and so many bytes of contents."""
        prefixes = [RAW_OUTPUTS + varint(size) for _, _, size in tensors]
        self._fixed = (head + prefixes[0], *prefixes[1:])
        pieces = [f"{len(same)}s{size}s" for same, (_, _, size) in zip(self._fixed, tensors, strict=True)]
        self._split = struct.Struct("".join(pieces)).unpack
        self._tensors = [(each.name, each.datatype, each.datatype.dtype, shape) for each, shape, _ in tensors]

    def read(self, body: bytes) -> dict[str, Tensor] | None:
        """The tensors of an answer as long as the one that the form was learnt of; None where it is not of this form."""
        parts = self._split(body)
        if parts[::2] != self._fixed:
            return None
        found = {}
        for (name, datatype, dtype, shape), raw in zip(self._tensors, parts[1::2], strict=True):
            if datatype.size is not None:  # that many bytes they are
                found[name] = Tensor(datatype, np.ndarray(shape, dtype, raw))
                continue
            try:
                found[name] = Tensor.from_raw(name, datatype, shape, raw)
            except InvalidArgument:  # of texts whose lengths do not add up: reading the message tells so
                return None
        return found
