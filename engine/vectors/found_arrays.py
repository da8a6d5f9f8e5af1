"""What several searches of one collection found, as arrays: a row a search, k hits of each, filled up where there are fewer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.vectors.found import Found
from engine.vectors.found_elsewhere import AnyFound, FoundElsewhere, one_after_other
from engine.vectors.view import Singles


class FoundArrays:
    """Of n searches at once, n at least 1. `counts` int32 [n]: how many hits each has, at most k."""

    def __init__(self, found: Sequence[AnyFound], k: int) -> None:
        self.counts = np.array([len(each) for each in found], np.int32)
        self._k = k
        self._there = None if (self.counts == k).all() else np.arange(k) < self.counts[:, np.newaxis]
        """[n, k]; None is all."""
        self.missing = found[0].missing
        """See `FoundElsewhere`."""
        self._found = _all_of(found)

    def scores(self, fill: float) -> Singles:
        """float32 [n, k]."""
        return self._filled(self._found.scores.astype(np.float32, copy=False), fill)  # those of fusions are float64

    def ids(self, fill: int | bytes) -> npt.NDArray[Any]:
        """uint64 [n, k], of text bytes objects."""
        ids = self._found.ids
        return self._filled(ids if isinstance(ids, np.ndarray) else plain(ids), fill)

    def field(self, name: str, fill: Any) -> npt.NDArray[Any]:  # noqa: ANN401  an element
        """A field that is no array, see `plain`, [n, k] or [n, k, 2]; `fill` also where a hit has none."""
        numbers = self._found.numbers(name) if isinstance(self._found, Found) else None
        if numbers is not None:
            return self._filled(numbers, fill)
        column = self._found.column(name)
        if not column.null_count:
            return self._filled(plain(column), fill)
        some = plain(column.drop_null())
        every = np.full((len(column), *some.shape[1:]), fill, some.dtype)
        every[column.is_valid().to_numpy(zero_copy_only=False)] = some
        return self._filled(every, fill)

    def _filled(self, values: npt.NDArray[Any], fill: Any) -> npt.NDArray[Any]:  # noqa: ANN401
        rows, more = len(self.counts), values.shape[1:]
        if self._there is None:
            return values.reshape(rows, self._k, *more)
        found = np.full((rows, self._k, *more), fill, values.dtype)
        found[self._there] = values
        return found


def _all_of(found: Sequence[AnyFound]) -> AnyFound:
    if len(found) == 1:
        return found[0]
    here = [each for each in found if isinstance(each, Found)]
    if here:
        scores, places = (
            np.concatenate(each) for each in zip(*((one.scores, one.places) for one in here), strict=True)
        )
        return Found(here[0].view, scores, places)
    elsewhere = [each.columns for each in found if isinstance(each, FoundElsewhere)]
    return FoundElsewhere(found[0].spec, one_after_other(elsewhere))


def plain(column: pa.Array) -> npt.NDArray[Any]:
    """None of it null: text as bytes objects, integers int64, datetimes as int64 microseconds since the Unix epoch, floats
    float64, bools, latitude and longitude float64 [n, 2]."""
    kind = column.type
    if pa.types.is_string(kind):
        column = column.cast(pa.binary())
    elif pa.types.is_timestamp(kind):
        column = column.cast(pa.int64())
    elif pa.types.is_fixed_size_list(kind):
        return plain(column.flatten()).reshape(len(column), kind.list_size)
    found: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return found
