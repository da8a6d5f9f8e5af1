"""What may be asked of a collection whose points are in this process, wherever they came from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.errors import InvalidArgument, NotFound, TooLarge
from engine.limits import SEARCH_K_MAX
from engine.vectors.checks import check_names, check_tenant, checked_filter, checked_ids, checked_query
from engine.vectors.declaration import CollectionSpec
from engine.vectors.export import exported
from engine.vectors.filter import Filter, placed
from engine.vectors.found import Found
from engine.vectors.gathering import Block, gather_vectors
from engine.vectors.hits import hits_of
from engine.vectors.locations import ABSENT
from engine.vectors.matching import count
from engine.vectors.places import ROW_MASK, SHIFT
from engine.vectors.query import DenseLeg, Hit, Query
from engine.vectors.recommend import resolved
from engine.vectors.scroll import page
from engine.vectors.search import search, search_many
from engine.vectors.values import PointId, checked_id
from engine.vectors.view import Longs, Singles, View


class Watcher(Protocol):
    """Is told of searches, such as who measures recall."""

    def offer(self, view: View, query: Query, found: Found) -> None:
        """Returns at once."""


class State(Protocol):
    """What is read: one fold, or several as one."""

    @property
    def spec(self) -> CollectionSpec:
        """As what it is read."""

    @property
    def view(self) -> View:
        """The newest."""

    def locate(self, ids: Sequence[PointId] | npt.NDArray[np.uint64], tenant: str | None = None) -> tuple[View, Longs]:
        """See `Fold.locate`."""


class Readable:
    """The questions of a collection. Any thread; none of them waits for a write."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.watcher: Watcher | None = None

    @property
    def _state(self) -> State:
        """As it is now."""
        raise NotImplementedError

    @property
    def spec(self) -> CollectionSpec:
        """As what it is read now."""
        return self._state.spec

    @property
    def view(self) -> View:
        """The newest state."""
        return self._state.view

    def search(self, query: Query, *, explain: bool = False) -> Found:
        """The answer from one view; with `explain` how it was found too. Raises InvalidArgument, TooLarge; NotFound where an
        example of a recommendation is not there."""
        state = self._state
        view = state.view
        query = _resolved(state, checked_query(view.spec, query))
        found = search(view, query, explain=explain)
        if self.watcher is not None:
            self.watcher.offer(view, query, found)
        return found

    def search_many(self, queries: Sequence[Query], *, paths: Sequence[str] | None = None) -> list[Found]:
        """Each as `search`, from one view. What it raises names the query by its path, if none are given "queries[3]"."""
        state = self._state
        view = state.view
        checked = []
        for at, each in enumerate(queries):
            try:
                checked.append(_resolved(state, checked_query(view.spec, each)))
            except (InvalidArgument, TooLarge, NotFound) as error:
                path = f"queries[{at}]" if paths is None else paths[at]
                raise type(error)(f"{path}: {error.message}") from error
        found = search_many(view, checked)
        if self.watcher is not None:
            for query, hits in zip(checked, found, strict=True):
                self.watcher.offer(view, query, hits)
        return found

    def get(
        self, ids: Sequence[PointId], *, payload: Sequence[str] = (), vectors: Sequence[str] = (),
        tenant: str | None = None,
    ) -> list[Hit]:  # fmt: skip
        """Those of the points that are there, in the order asked, each once; their scores say nothing. Raises InvalidArgument."""
        return _points_of(self._state, ids, payload, vectors, tenant)

    def gather(
        self, ids: npt.NDArray[np.uint64] | Sequence[str], blocks: Sequence[Block], buffer: Singles
    ) -> npt.NDArray[np.bool_]:
        """Vectors of each of n points, looked up once, into the blocks of `buffer` (float32 [n, W]), their defaults where a point
        is not there; which are. The collection has no tenants, and `ids` are of its kind. Raises Unavailable; FailedPrecondition
        where it has no such vector any more."""
        view, locations = self._state.locate(ids, None)
        return gather_vectors(view, locations, blocks, buffer)

    def scroll(
        self, *, filter_: Filter | None = None, limit: int = 10, after: PointId | None = None,
        payload: Sequence[str] = (), vectors: Sequence[str] = (), tenant: str | None = None,
    ) -> tuple[list[Hit], PointId | None]:  # fmt: skip
        """At most `limit` points of ids past `after`, ascending; the last one's id if there are more. Raises InvalidArgument."""
        view = self._state.view
        check_names(view.spec, payload=payload, vectors=vectors)
        if not 1 <= limit <= SEARCH_K_MAX:
            raise InvalidArgument(f"limit: must be from 1 to {SEARCH_K_MAX}, got {limit}")
        if after is not None:
            after = placed("after", checked_id, after, view.spec.id)
        places, last = page(view, checked_filter(view.spec, filter_, tenant), limit, after)
        return hits_of(view, [0.0] * len(places), places, payload, vectors), last

    def count(self, filter_: Filter | None = None, *, tenant: str | None = None) -> int:
        """How many points a canonical filter is about. Raises InvalidArgument."""
        view = self._state.view
        return count(view, checked_filter(view.spec, filter_, tenant))

    def export(
        self, *, filter_: Filter | None = None, tenant: str | None = None, payload: Sequence[str] | None = None,
        vectors: Sequence[str] | None = None,
    ) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:  # fmt: skip
        """All points a canonical filter is about, of one state, batch by batch: these fields and vectors (None: all), columns of
        `points_schema`. Raises InvalidArgument."""
        view = self._state.view
        return exported(view, checked_filter(view.spec, filter_, tenant), payload, vectors)


def _points_of(
    state: State, ids: Sequence[PointId], payload: Sequence[str], vectors: Sequence[str], tenant: str | None
) -> list[Hit]:
    """See Readable.get. Of one state, whatever is altered meanwhile."""
    check_tenant(state.spec, tenant)
    check_names(state.spec, payload=payload, vectors=vectors)
    wanted = list(dict.fromkeys(checked_ids(state.spec, ids)))
    view, found = state.locate(wanted, tenant)
    positions = {each.part.key: at for at, each in enumerate(view.parts)}
    places = [(positions[each >> SHIFT] << SHIFT) | (each & ROW_MASK) for each in found.tolist() if each != ABSENT]
    return hits_of(view, [0.0] * len(places), np.array(places, np.int64), payload, vectors)


def _resolved(state: State, query: Query) -> Query:
    if type(query.legs[0]) is DenseLeg and len(query.legs) == 1:
        return query

    def vectors_of(name: str, ids: Sequence[PointId]) -> list[Singles | None]:
        found = _points_of(state, ids, (), (name,), query.tenant)
        known = {each.id: each.vectors[name] for each in found}
        return [known.get(each) for each in ids]

    return resolved(state.spec, query, vectors_of)
