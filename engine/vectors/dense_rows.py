"""Dense vectors as a segment keeps them, in one of four precisions, and the way there from float32 and back.

| stored | data | what is lost |
|---|---|---|
| float32 | float32 [n, d] | nothing |
| float16 | float16 [n, d] | 11 significant bits stay; past ±65,504 it is that |
| int8 | int8 [n, d], with a float32 scale for each dimension: x = data * scale | up to half the scale |
| binary | uint8 [n, ceil(d / 8)], bit j % 8 (from the least) of byte j // 8 set where x_j >= 0 | all but the sign |
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.log.disk import Disk
from engine.vectors.declaration import Stored
from engine.vectors.segment_file import DraftFile, FileSum, as_array, map_file

Singles = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

BLOCK_BYTES: Final = 4 << 20
"""How much is converted at once, as float32: what memory a conversion takes."""

_DTYPES: Final[dict[Stored, type[np.generic]]] = {
    "float32": np.float32,
    "float16": np.float16,
    "int8": np.int8,
    "binary": np.uint8,
}
_HALF_MAX: Final = float(np.finfo(np.float16).max)
_INT8_MAX: Final = 127


def stored_width(size: int, stored: Stored) -> int:
    """How many numbers of the stored kind a vector of `size` dimensions has."""
    return (size + 7) // 8 if stored == "binary" else size


def encode(block: Singles, stored: Stored, scale: Singles | None = None) -> npt.NDArray[Any]:
    """float32 [n, d] as it is stored; `scale` float32 [d] of int8 alone. Finite numbers are wanted."""
    if stored == "float32":
        return block
    if stored == "float16":
        return np.clip(block, -_HALF_MAX, _HALF_MAX).astype(np.float16)
    if stored == "binary":
        return np.packbits(block >= 0, axis=1, bitorder="little")
    assert scale is not None
    whole = np.rint(block / np.where(scale > 0, scale, np.float32(1)))
    return np.clip(whole, -_INT8_MAX, _INT8_MAX).astype(np.int8)


def decode(data: npt.NDArray[Any], size: int, stored: Stored, scale: Singles | None = None) -> Singles:
    """What is stored as float32 [n, d]; of binary 1 and -1."""
    if stored == "binary":
        bits = np.unpackbits(data, axis=1, count=size, bitorder="little")
        return np.where(bits, np.float32(1), np.float32(-1))
    numbers = np.ascontiguousarray(data, dtype=np.float32)
    return numbers if scale is None else numbers * scale


@dataclass(frozen=True, slots=True, eq=False)
class DenseRows:
    """The vectors of a segment, in the order of its rows, read-only. `data`: see the table above; `scale` of int8 alone."""

    data: npt.NDArray[Any]
    size: int
    stored: Stored
    scale: Singles | None = None

    @property
    def rows(self) -> int:
        """How many vectors."""
        return len(self.data)

    @property
    def plain(self) -> npt.NDArray[Any]:
        """`data` as the kernels of `kernels.scoring` take it: float16 as its bits, uint16."""
        return self.data.view(np.uint16) if self.stored == "float16" else self.data

    def float32(self, rows: Rows | slice) -> Singles:
        """Chosen rows as float32 [n, d]: what was given, less what the precision lost."""
        return decode(self.data[rows], self.size, self.stored, self.scale)

    @classmethod
    def over(cls, mapped: Any, size: int, stored: Stored, scale: Singles | None = None) -> DenseRows:  # noqa: ANN401
        """Of the bytes of a file."""
        data = as_array(mapped, _DTYPES[stored]).reshape(-1, stored_width(size, stored))
        return cls(data, size, stored, scale)


class Decoded:
    """Stored vectors to be read as float32 [n, d], slice by slice."""

    def __init__(self, rows: DenseRows) -> None:
        self._rows = rows
        self.shape = (rows.rows, rows.size)

    def __len__(self) -> int:
        """How many."""
        return self._rows.rows

    def __getitem__(self, chosen: Any) -> Singles:  # noqa: ANN401  a slice or rows
        return self._rows.float32(chosen)


def readable(rows: DenseRows, count: int | None = None) -> Any:  # noqa: ANN401
    """What `build_index` reads of the first `count` rows, None is all: the array itself where it is float32."""
    some = rows if count is None else replace(rows, data=rows.data[:count])
    return some.data if some.stored == "float32" else Decoded(some)


class DenseWriter:
    """Writes vectors of one name, from float32 and slice by slice; memory stays at some BLOCK_BYTES. Raises OSError.

    The scale of int8 is the least that no vector is past, known when all are there: until then they lie in a file beside, as
    float32.
    """

    def __init__(self, folder: Path, name: str, size: int, stored: Stored, disk: Disk) -> None:
        self._folder, self._name, self._disk = folder, name, disk
        self._size, self._stored = size, stored
        self._late = stored == "int8"
        self._file = DraftFile(folder / (f"{name}.float32.spool" if self._late else f"{name}.{stored}"), disk)
        self._scale = np.zeros(size, np.float32)
        self._block_rows = max(1, BLOCK_BYTES // (4 * size))
        self.rows = 0

    def add(self, vectors: Singles) -> None:
        """float32 [n, d]."""
        assert vectors.shape[1:] == (self._size,), f"{vectors.shape}, expected [n, {self._size}]"
        for begin in range(0, len(vectors), self._block_rows):
            block = vectors[begin : begin + self._block_rows]
            if self._late:
                np.maximum(self._scale, np.abs(block).max(axis=0) / np.float32(_INT8_MAX), out=self._scale)
            self._file.write(np.ascontiguousarray(block if self._late else encode(block, self._stored)))
        self.rows += len(vectors)

    def keep_scale(self, scale: Singles) -> None:
        """int8 that had this scale before stays as exact as it was: what is merged again and again does not wear off."""
        np.maximum(self._scale, scale, out=self._scale)

    def finish(self) -> tuple[FileSum, FileSum | None]:
        """The vectors' file and that of the scale, both synced."""
        return self._quantised() if self._late else (self._file.finish(), None)

    def _quantised(self) -> tuple[FileSum, FileSum]:
        self._file.close()
        spooled = as_array(map_file(self._file.path), np.float32).reshape(-1, self._size)
        target = DraftFile(self._folder / f"{self._name}.{self._stored}", self._disk)
        factors = DraftFile(self._folder / f"{self._name}.scale", self._disk)
        try:
            for begin in range(0, self.rows, self._block_rows):
                target.write(encode(spooled[begin : begin + self._block_rows], self._stored, self._scale))
            factors.write(self._scale)
            self._file.path.unlink()
            return target.finish(), factors.finish()
        finally:
            target.close()
            factors.close()

    def close(self) -> None:
        """Lets go of what is not finished."""
        self._file.close()
