"""Where each living point is: from its id, within its tenant if there are tenants, to a part's key << 32 | the row within it.

One thread writes at a time, and nobody reads meanwhile. When parts are merged nothing is rewritten at once: `move` notes where
their rows went, answers are translated from then on, and `settle` rewrites them slice by slice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.vectors.places import ROW_MASK, SHIFT, parts_of
from engine.vectors.values import PointId
from kernels import idmap

Longs = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int32]
Ids = Any
"""npt.NDArray[np.uint64] or pa.StringArray."""

ABSENT: Final = idmap.ABSENT


class Table(Protocol):
    """From ids to locations. `tenants`: of each id, None where the collection has none."""

    def put(self, ids: Ids, tenants: pa.StringArray | None, new: Longs) -> Longs:
        """Puts each at its new location, in order; where each was before, ABSENT where it was not."""

    def get(self, ids: Ids, tenants: pa.StringArray | None) -> Longs:
        """Where each is, or ABSENT."""

    def remove(self, ids: Ids, tenants: pa.StringArray | None) -> Longs:
        """Takes each out; where it was, or ABSENT."""


class IntegerTable:
    """Of integer ids without tenants: 16 bytes a slot."""

    def __init__(self, room: int = 0) -> None:
        self._keys, self._locations = idmap.new_table(idmap.slots_for(room))
        self._count = 0

    def put(self, ids: Ids, tenants: pa.StringArray | None, new: Longs) -> Longs:
        """See Table."""
        if self._count + len(ids) > idmap.room_of(len(self._keys)):
            keys, locations = idmap.new_table(idmap.slots_for(2 * (self._count + len(ids))))
            idmap.move_all(self._keys, self._locations, keys, locations)
            self._keys, self._locations = keys, locations
        old = np.empty(len(ids), np.int64)
        self._count += idmap.put(self._keys, self._locations, ids, new, old)
        return old

    def get(self, ids: Ids, tenants: pa.StringArray | None) -> Longs:
        """See Table."""
        found = np.empty(len(ids), np.int64)
        idmap.get(self._keys, self._locations, ids, found)
        return found

    def remove(self, ids: Ids, tenants: pa.StringArray | None) -> Longs:
        """See Table."""
        old = np.empty(len(ids), np.int64)
        self._count -= idmap.remove(self._keys, self._locations, ids, old)
        return old


class KeyedTable:
    """Of text ids, and of ids of tenants: a dictionary."""

    def __init__(self) -> None:
        self._found: dict[object, int] = {}

    def put(self, ids: Ids, tenants: pa.StringArray | None, new: Longs) -> Longs:
        """See Table."""
        found, old = self._found, np.empty(len(ids), np.int64)
        for at, (key, location) in enumerate(zip(_keys(ids, tenants), new.tolist(), strict=True)):
            old[at] = found.get(key, ABSENT)
            found[key] = location
        return old

    def get(self, ids: Ids, tenants: pa.StringArray | None) -> Longs:
        """See Table."""
        return np.fromiter((self._found.get(each, ABSENT) for each in _keys(ids, tenants)), np.int64, len(ids))

    def remove(self, ids: Ids, tenants: pa.StringArray | None) -> Longs:
        """See Table."""
        return np.fromiter((self._found.pop(each, ABSENT) for each in _keys(ids, tenants)), np.int64, len(ids))


def _keys(ids: Ids, tenants: pa.StringArray | None) -> Iterable[object]:
    plain: list[object] = ids.tolist() if isinstance(ids, np.ndarray) else ids.to_pylist()
    return plain if tenants is None else zip(tenants.to_pylist(), plain, strict=True)


class Locations:
    """See the module."""

    def __init__(self, *, integer: bool, tenants: bool) -> None:
        self._table: Table = IntegerTable() if integer and not tenants else KeyedTable()
        self._moved: dict[int, tuple[int, Rows]] = {}

    def put(self, ids: Ids, tenants: pa.StringArray | None, new: Longs) -> Longs:
        """Puts each id at its new location, in order; where each was before, ABSENT where it was not."""
        return self._translated(self._table.put(ids, tenants, new))

    def get(self, ids: Ids, tenants: pa.StringArray | None) -> Longs:
        """Where each is, or ABSENT."""
        return self._translated(self._table.get(ids, tenants))

    def remove(self, ids: Ids, tenants: pa.StringArray | None) -> Longs:
        """Takes each out; where it was, or ABSENT."""
        return self._translated(self._table.remove(ids, tenants))

    def move(self, key: int, new_key: int, rows: Rows) -> None:
        """Row i of part `key` is row `rows`[i] of part `new_key` from now on. `settle` must have ended for older moves."""
        assert key not in self._moved
        assert new_key not in self._moved
        self._moved[key] = (new_key, rows)

    def settle(self, ids: Ids, tenants: pa.StringArray | None) -> None:
        """Rewrites the locations of these ids, if they are there."""
        raw = self._table.get(ids, tenants)
        stale = np.flatnonzero(np.isin(raw >> SHIFT, list(self._moved)) & (raw != ABSENT))
        if len(stale):
            chosen = ids[stale] if isinstance(ids, np.ndarray) else ids.take(stale)
            theirs = None if tenants is None else tenants.take(stale)
            self._table.put(chosen, theirs, self._translated(raw[stale]))

    def settled(self) -> None:
        """Every id of the merged parts was given to `settle`."""
        self._moved.clear()

    def _translated(self, locations: Longs) -> Longs:
        if not self._moved:
            return locations
        keys = locations >> SHIFT
        for key, (new_key, rows) in self._moved.items():
            here = np.flatnonzero((keys == key) & (locations != ABSENT))
            if len(here):
                locations[here] = (new_key << SHIFT) | rows[locations[here] & ROW_MASK].astype(np.int64)
        return locations


def by_part(locations: Longs) -> Iterator[tuple[int, Longs]]:
    """The rows of each part among some locations, by its key; ABSENT is left out."""
    if len(locations) == 1:
        (location,) = locations.tolist()
        if location != ABSENT:
            yield location >> SHIFT, locations & ROW_MASK
        return
    for key, _, rows in parts_of(locations[locations != ABSENT]):
        yield key, rows


def id_column(ids: Sequence[PointId] | npt.NDArray[np.uint64], *, integer: bool) -> Ids:
    """Ids as a part has them."""
    return np.asarray(ids, np.uint64) if integer else pa.array(ids, pa.string())
