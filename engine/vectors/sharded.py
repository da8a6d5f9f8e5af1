"""A collection whose points are in shards, in other processes: each question is asked of all of them, or of those of its ids.

Writes go to the topic from here; every replica of a shard follows it. A write is answered once the broker has it, and a read that
brings its token shows it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from typing import Any, NoReturn, Protocol, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.clock import Deadline
from engine.errors import InvalidArgument, NotFound, TooLarge, Unimplemented, VireoError, quoted
from engine.limits import SEARCH_K_MAX
from engine.log.kafka import KafkaLog
from engine.log.log import Offsets
from engine.log.sharding import rows_by_shard
from engine.vectors.checks import check_names, check_tenant, checked_filter, checked_ids, checked_query
from engine.vectors.collection_info import CollectionInfo
from engine.vectors.declaration import CollectionSpec
from engine.vectors.filter import Filter
from engine.vectors.found_elsewhere import FoundElsewhere
from engine.vectors.gathering import Block
from engine.vectors.locations import id_column
from engine.vectors.query import Hit, Query
from engine.vectors.recommend import resolved
from engine.vectors.scattering import check_scattered, gathered, scattered
from engine.vectors.shard import Question
from engine.vectors.topic import TopicCollection, open_topic, points_alone
from engine.vectors.values import PointId
from engine.vectors.view import Singles


@dataclass(frozen=True, slots=True)
class Told:
    """`answers` by shard, of those that answered; `missing`: the names of those that did not in time."""

    answers: Mapping[int, Any]
    missing: tuple[str, ...] = ()


class Shards(Protocol):
    """The ways to the shards of one collection. Any thread."""

    @property
    def names(self) -> Sequence[str]:
        """Of all, by number."""

    def ask(self, questions: Mapping[int, Question], after: Offsets, deadline: Deadline, *, whole: bool) -> Told:
        """Asks shards, by their numbers, and waits until the deadline. Each shows everything before `after` of its partitions.
        With `whole` none may be missing, whatever is declared. Raises what a shard fails with."""


class ShardedCollection(TopicCollection):
    """See the module. Any thread; questions wait for the shards, whose ways are others' to close. Raises what the topic does."""

    def __init__(self, name: str, declared: CollectionSpec, shards: Shards) -> None:
        self.name, self.declared = name, declared
        self._points = points_alone(declared)
        self._shards = shards
        self._topic = open_topic(declared, None)
        self._partitions = len(self._topic.latest())
        self._after: Offsets = {}
        self._deadline = Deadline.NEVER

    @property
    def spec(self) -> CollectionSpec:
        """As what its points are read, whatever their log is."""
        return self._points

    def reading(self, after: Offsets, deadline: Deadline) -> Self:
        """The same, whose answers show everything before `after`, and come by `deadline`."""
        found = copy.copy(self)
        found._after, found._deadline = after, deadline
        return found

    def _log(self) -> KafkaLog:
        return self._topic

    def close(self) -> None:
        """Writes no more."""
        self._topic.close()

    # Questions: see engine/vectors/readable.py.

    def search(self, query: Query, *, explain: bool = False) -> FoundElsewhere:
        """The best points of all shards. Raises InvalidArgument, TooLarge, NotFound; Unimplemented, see
        engine/vectors/scattering.py; Unavailable, DeadlineExceeded where a shard does not answer."""
        return self._searched([self._prepared(query)], explain=explain)[0]

    def search_many(self, queries: Sequence[Query], *, paths: Sequence[str] | None = None) -> list[FoundElsewhere]:
        """Each as `search`. What it raises names the query by its path, if none are given "queries[3]"."""
        prepared = []
        for at, each in enumerate(queries):
            try:
                prepared.append(self._prepared(each))
            except (InvalidArgument, TooLarge, NotFound, Unimplemented) as error:
                path = f"queries[{at}]" if paths is None else paths[at]
                raise type(error)(f"{path}: {error.message}") from error
        return self._searched(prepared, explain=False)

    def _prepared(self, query: Query) -> Query:
        query = checked_query(self.spec, query)
        check_scattered(query)
        return resolved(self.spec, query, partial(self._vectors_of, query.tenant))

    def _vectors_of(self, tenant: str | None, name: str, ids: Sequence[PointId]) -> list[Singles | None]:
        found = {each.id: each.vectors[name] for each in self.get(ids, vectors=(name,), tenant=tenant)}
        return [found.get(each) for each in ids]

    def _searched(self, queries: Sequence[Query], *, explain: bool) -> list[FoundElsewhere]:
        if not queries:
            return []
        parts = [scattered(each) for each in queries]
        given = {"queries": [one for each in parts for one in each], "explain": explain}
        told = self._ask_all(Question("search", given), whole=False)
        by_part = list(zip(*self._named_plans(told), strict=True))
        found, first = [], 0
        for query, each in zip(queries, parts, strict=True):
            hits = gathered(self.spec, query, by_part[first : first + len(each)])
            found.append(FoundElsewhere(self.spec, hits, told.missing))
            first += len(each)
        return found

    def _named_plans(self, told: Told) -> Iterator[Any]:
        """Of each shard what it found, its plans with its name."""
        for number, columns in sorted(told.answers.items()):
            name = self._shards.names[number]
            yield [replace(each, plans=tuple([f"{name}: {one}" for one in each.plans])) for each in columns]

    def get(
        self, ids: Sequence[PointId], *, payload: Sequence[str] = (), vectors: Sequence[str] = (),
        tenant: str | None = None,
    ) -> list[Hit]:  # fmt: skip
        """See `Readable.get`: asks the shards of these ids alone, and all of those must answer."""
        check_tenant(self.spec, tenant)
        check_names(self.spec, payload=payload, vectors=vectors)
        wanted = list(dict.fromkeys(checked_ids(self.spec, ids)))
        questions = {
            number: Question(
                "get",
                {
                    "ids": [wanted[row] for row in rows.tolist()],
                    "payload": payload,
                    "vectors": vectors,
                    "tenant": tenant,
                },
            )
            for number, rows in self._rows_by_shard(wanted).items()
        }
        told = self._shards.ask(questions, self._after, self._deadline, whole=True)
        found = {hit.id: hit for hits in told.answers.values() for hit in hits}
        return [found[each] for each in wanted if each in found]

    def _rows_by_shard(self, ids: Sequence[PointId]) -> dict[int, npt.NDArray[np.int64]]:
        if not ids:
            return {}
        keys = pa.array(id_column(ids, integer=self.spec.id == "integer"))
        return rows_by_shard(keys, self._partitions, len(self._shards.names))

    def scroll(
        self, *, filter_: Filter | None = None, limit: int = 10, after: PointId | None = None,
        payload: Sequence[str] = (), vectors: Sequence[str] = (), tenant: str | None = None,
    ) -> tuple[list[Hit], PointId | None]:  # fmt: skip
        """See `Readable.scroll`; every shard must answer."""
        if not 1 <= limit <= SEARCH_K_MAX:
            raise InvalidArgument(f"limit: must be from 1 to {SEARCH_K_MAX}, got {limit}")
        given = {
            "filter_": filter_, "limit": limit, "after": after, "payload": payload, "vectors": vectors, "tenant": tenant,
        }  # fmt: skip
        pages = self._ask_all(Question("scroll", given), whole=True).answers.values()
        hits = sorted((hit for page, _ in pages for hit in page), key=attrgetter("id"))
        more = len(hits) > limit or any(last is not None for _, last in pages)
        return hits[:limit], hits[:limit][-1].id if more else None

    def count(self, filter_: Filter | None = None, *, tenant: str | None = None) -> int:
        """See `Readable.count`; every shard must answer."""
        checked_filter(self.spec, filter_, tenant)
        told = self._ask_all(Question("count", {"filter_": filter_, "tenant": tenant}), whole=True)
        return sum(told.answers.values())

    def info(self) -> CollectionInfo:
        """What there is, of one replica of each shard; `problem` where they do not say."""
        try:
            told = self._ask_all(Question("info", {}), whole=True)
        except VireoError as error:
            return CollectionInfo(self.name, 0, (), 0, 0, False, error.message)
        infos = [each for _, each in sorted(told.answers.items())]
        names = self._shards.names
        parts = [
            replace(part, name=f"{names[at]}: {part.name}") for at, each in enumerate(infos) for part in each.parts
        ]
        problems = [f"{names[at]}: {each.problem}" for at, each in enumerate(infos) if each.problem is not None]
        return CollectionInfo(
            self.name, sum(each.points for each in infos), parts, sum(each.offset for each in infos),
            sum(each.replay_from for each in infos), any(each.indexing for each in infos), "; ".join(problems) or None,
        )  # fmt: skip

    def _ask_all(self, question: Question, *, whole: bool) -> Told:
        every = dict.fromkeys(range(len(self._shards.names)), question)
        return self._shards.ask(every, self._after, self._deadline, whole=whole)

    # What is refused.

    def export(
        self, *, filter_: Filter | None = None, tenant: str | None = None, payload: Sequence[str] | None = None,
        vectors: Sequence[str] | None = None,
    ) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:  # fmt: skip
        """Raises Unimplemented."""
        self._refuse_over_shards("pages are to be had by scrolling, not all points by one export")

    def gather(
        self, ids: npt.NDArray[np.uint64] | Sequence[str], blocks: Sequence[Block], buffer: Singles
    ) -> npt.NDArray[np.bool_]:
        """Raises Unimplemented."""
        self._refuse_over_shards("a gather reads the memory of its own process")

    def wait_indexed(self, timeout_s: float) -> bool:
        """Raises Unimplemented."""
        self._refuse_over_shards("each replica indexes what it follows")

    def _refuse_over_shards(self, what: str) -> NoReturn:
        raise Unimplemented(f"collection {quoted(self.name)}: its points are in shards, in other processes; {what}")
