"""What a search found, as columns; points one by one are made of them where somebody asks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.vectors.declaration import CollectionSpec
from engine.vectors.hits import Grouped, field_values, grouped, hits_of, ids_of_places, numbers_of_places
from engine.vectors.query import Hit
from engine.vectors.values import PointId
from engine.vectors.view import Longs, View


class Found:
    """n hits, best first. `scores` float [n], as `engine.vectors.query` has them; `places` int64 [n] in `view`, which is held.
    `groups`: of each hit the value it is grouped by. `plans`: how each segment was searched, in words, for `explain`. What it is
    asked for is worked out once, by any thread."""

    missing: tuple[str, ...] = ()
    """See `FoundElsewhere`."""

    def __init__(
        self, view: View, scores: npt.NDArray[np.floating], places: Longs, *, payload: Sequence[str] = (),
        vectors: Sequence[str] = (), groups: Sequence[PointId] | None = None, plans: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        """`payload` and `vectors`: what `hits` carry."""
        self.view = view
        self.scores = scores
        self.places = places
        self.groups = groups
        self.plans = plans
        self._payload = payload
        self._vectors = vectors

    def __len__(self) -> int:
        """How many hits."""
        return len(self.places)

    @property
    def spec(self) -> CollectionSpec:
        """Of the collection, as it was searched."""
        return self.view.spec

    @cached_property
    def ids(self) -> npt.NDArray[np.uint64] | pa.StringArray:
        """Of the hits, [n]."""
        return ids_of_places(self.view, self.places)

    @cached_property
    def _grouped(self) -> Grouped:
        return grouped(self.places)

    def column(self, field: str) -> pa.Array:
        """A field of the payload, [n]; null where a hit has none."""
        return field_values(self.view, field, self._grouped)

    def numbers(self, field: str) -> npt.NDArray[Any] | None:
        """The same as numbers, where all hits have some; else None."""
        return numbers_of_places(self.view, field, self.places)

    @cached_property
    def hits(self) -> list[Hit]:
        """One by one."""
        found = hits_of(self.view, self.scores.tolist(), self.places, self._payload, self._vectors, ids=self.ids)
        if self.groups is not None:
            for hit, value in zip(found, self.groups, strict=True):
                hit.group = value
        return found
