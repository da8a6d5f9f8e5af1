"""What searches of other processes found: hits by their columns, without the view that they are in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.vectors.declaration import CollectionSpec
from engine.vectors.found import Found
from engine.vectors.hits import column_values
from engine.vectors.query import Hit, Query
from engine.vectors.values import PointId
from engine.vectors.view import Longs


@dataclass(frozen=True, slots=True, eq=False)
class HitColumns:
    """n hits, best first, in a form that goes from process to process: see `Found`. `fields`: of the payload; `vectors`: of each
    hit, None where none are wanted."""

    ids: npt.NDArray[np.uint64] | pa.StringArray
    scores: npt.NDArray[np.floating]
    fields: Mapping[str, pa.Array]
    vectors: Sequence[Mapping[str, Any]] | None = None
    groups: Sequence[PointId] | None = None
    plans: tuple[str, ...] = ()

    @classmethod
    def of(cls, found: Found, query: Query) -> HitColumns:
        """All that hits of `query` carry."""
        vectors = [dict(each.vectors) for each in found.hits] if query.vectors else None
        fields = {name: found.column(name) for name in query.payload}
        return cls(found.ids, found.scores, fields, vectors, found.groups, found.plans)

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows: Longs) -> HitColumns:
        """These hits, in this order."""
        chosen = pa.array(rows)
        return HitColumns(
            self.ids[rows] if isinstance(self.ids, np.ndarray) else self.ids.take(chosen),
            self.scores[rows],
            {name: each.take(chosen) for name, each in self.fields.items()},
            None if self.vectors is None else [self.vectors[row] for row in rows.tolist()],
            None if self.groups is None else [self.groups[row] for row in rows.tolist()],
            self.plans,
        )


def one_after_other(several: Sequence[HitColumns]) -> HitColumns:
    """The hits of all, at least one, which carry the same."""
    if len(several) == 1:
        return several[0]
    ids = [each.ids for each in several]
    fields = {name: pa.concat_arrays([each.fields[name] for each in several]) for name in several[0].fields}
    vectors = None if several[0].vectors is None else [one for each in several for one in each.vectors or ()]
    groups = None if several[0].groups is None else [one for each in several for one in each.groups or ()]
    plans = tuple([one for each in several for one in each.plans])
    together = np.concatenate(ids) if isinstance(ids[0], np.ndarray) else pa.concat_arrays(ids)
    return HitColumns(together, np.concatenate([each.scores for each in several]), fields, vectors, groups, plans)


class FoundElsewhere:
    """As `Found`. `missing`: the shards that did not answer in time, whose hits are not among these."""

    def __init__(self, spec: CollectionSpec, columns: HitColumns, missing: tuple[str, ...] = ()) -> None:
        self.spec, self.columns, self.missing = spec, columns, missing
        self.ids, self.scores = columns.ids, columns.scores
        self.groups, self.plans = columns.groups, columns.plans

    def __len__(self) -> int:
        return len(self.columns)

    def column(self, field: str) -> pa.Array:
        """A field of the payload that was asked for, [n]; null where a hit has none."""
        return self.columns.fields[field]

    @cached_property
    def hits(self) -> list[Hit]:
        """One by one."""
        columns, ids = self.columns, self.ids
        plain = ids.tolist() if isinstance(ids, np.ndarray) else ids.to_pylist()
        hits = [Hit(id_, score) for id_, score in zip(plain, self.scores.tolist(), strict=True)]
        values = [(name, column_values(each)) for name, each in columns.fields.items()]
        for at, hit in enumerate(hits):
            hit.payload = {name: each[at] for name, each in values if each[at] is not None}
            if columns.vectors is not None:
                hit.vectors = columns.vectors[at]
            if columns.groups is not None:
                hit.group = columns.groups[at]
        return hits


AnyFound = Found | FoundElsewhere
