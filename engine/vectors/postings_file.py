"""Postings in a file: a header that says whose they are, then arrays aligned to 64 bytes, little-endian, mapped when opened.

The file is `vireopst`, uint32 format version, uint32 length of the header, the header (JSON), zeros to the next multiple of 64,
and the arrays in the order of the header, each from a multiple of 64 on. Kernels check no bounds: what is opened is checked here
to be within them. Whether its bytes are right is for whoever keeps its checksum.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from engine.errors import DataLoss, FailedPrecondition, quoted
from engine.kinds import decodable
from engine.vectors.segment_file import Mapped, map_file, translated

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]

_MAGIC: Final = b"vireopst"
_VERSION: Final = 1
_HEAD: Final = struct.Struct("<8sII")
_ALIGNED: Final = 64


@dataclass(frozen=True, slots=True)
class ArrayPlace:
    """`dtype` as numpy writes it, for example "<u4"."""

    dtype: str
    size: int


@dataclass(frozen=True, slots=True)
class PostingsHeader:
    """Whose postings they are. `name`: of the text field or sparse vector; `rows`: of the segment; `stemmer`: of the field."""

    kind: Literal["text", "sparse"]
    name: str
    rows: int
    arrays: Mapping[str, ArrayPlace]
    stemmer: str | None = None


def write_postings(
    path: Path, kind: Literal["text", "sparse"], name: str, rows: int, arrays: Arrays, stemmer: str | None = None
) -> None:
    """A new file, not synced. Raises ResourceExhausted where the disk is full, Unavailable where it fails."""
    ordered = {key: each.astype(each.dtype.newbyteorder("<"), copy=False) for key, each in arrays.items()}
    places = {key: ArrayPlace(each.dtype.str, len(each)) for key, each in ordered.items()}
    header = msgspec.json.encode(PostingsHeader(kind, name, rows, places, stemmer))
    with translated(path, "write postings"), path.open("wb") as file:
        size = file.write(_HEAD.pack(_MAGIC, _VERSION, len(header)) + header)
        for each in ordered.values():
            size += file.write(bytes(-size % _ALIGNED))
            size += file.write(np.ascontiguousarray(each).data)


def read_postings(path: Path, dtypes: Mapping[str, tuple[str, ...]]) -> tuple[PostingsHeader, dict[str, Array]]:
    """The header, and the arrays, mapped, which are those of `dtypes`: of each what it may be.

    Raises DataLoss where the file is gone, cut short or not what its header says, FailedPrecondition where it is newer.
    """
    with translated(path, "open postings"):
        mapped = map_file(path)
    header, end = _header(path, mapped)
    if header.arrays.keys() != dtypes.keys():
        raise _damaged(path, f"has {sorted(header.arrays)}, expected {sorted(dtypes)}")
    found: dict[str, Array] = {}
    for key, place in header.arrays.items():
        if place.dtype not in dtypes[key] or place.size < 0:
            raise _damaged(path, f"{key} is {place.dtype} [{place.size}], expected {' or '.join(dtypes[key])}")
        start = end + -end % _ALIGNED
        end = start + np.dtype(place.dtype).itemsize * place.size
        if end > len(mapped):
            raise _damaged(path, f"{key} ends at byte {end} of {len(mapped)}")
        found[key] = np.frombuffer(mapped, place.dtype, place.size, start) if place.size else np.empty(0, place.dtype)
    if end != len(mapped):
        raise _damaged(path, f"has {len(mapped)} bytes, expected {end}")
    return header, found


def _header(path: Path, mapped: Mapped) -> tuple[PostingsHeader, int]:
    """The header, and where it ends."""
    if len(mapped) < _HEAD.size:
        raise _damaged(path, f"has {len(mapped)} bytes")
    magic, version, size = _HEAD.unpack_from(mapped)
    if magic != _MAGIC:
        raise _damaged(path, "are no postings")
    if version != _VERSION:
        raise FailedPrecondition(f"{quoted(str(path))}: format version {version}, this program reads {_VERSION}")
    end = _HEAD.size + size
    try:
        return msgspec.json.decode(mapped[_HEAD.size : end], type=decodable(PostingsHeader)), end
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise _damaged(path, f"has a wrong header: {error}") from error


def check_postings(path: Path, rows: int, terms: Array, offsets: Array, rows_of: Array, *weights: Array) -> None:
    """That each term's postings lie within the arrays, and each row within the segment. Raises DataLoss."""
    if rows < 0 or len(offsets) != len(terms) + 1 or any(len(each) != len(rows_of) for each in weights):
        raise _damaged(path, "has arrays of lengths that do not fit each other")
    if offsets[0] != 0 or offsets[-1] != len(rows_of) or (offsets[1:] < offsets[:-1]).any():
        raise _damaged(path, "has offsets that do not ascend from 0 to the number of postings")
    if len(rows_of) and int(rows_of.max()) >= rows:
        raise _damaged(path, f"has row {int(rows_of.max())} of {rows}")
    if (terms[1:] <= terms[:-1]).any():
        raise _damaged(path, "has terms that do not ascend")


def check_lengths(path: Path, rows: int, lengths: Array) -> None:
    """That each row of the segment has one. Raises DataLoss."""
    if len(lengths) != rows:
        raise _damaged(path, f"has the lengths of {len(lengths)} rows, expected {rows}")


def _damaged(path: Path, why: str) -> DataLoss:
    return DataLoss(f"{quoted(str(path))}: {why}: it is damaged")
