"""What is asked of one shard of a collection, and what it answers, as bytes.

Both ends are processes of one application, which no client reaches this way, and whose host sends its messages as pickles too.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from engine.errors import VireoError
from engine.vectors.collection_info import CollectionInfo
from engine.vectors.filter import Filter
from engine.vectors.followed import FollowedCollection
from engine.vectors.found_elsewhere import HitColumns
from engine.vectors.query import Hit, Query
from engine.vectors.values import PointId


@dataclass(frozen=True, slots=True)
class Question:
    """`about`: one of the questions below, `given` its arguments."""

    about: str
    given: Mapping[str, Any]

    def encoded(self) -> bytes:
        """For `answered`."""
        return pickle.dumps(self, pickle.HIGHEST_PROTOCOL)


@dataclass(frozen=True, slots=True)
class _Refused:
    kind: type[VireoError]
    message: str


def answered(collection: FollowedCollection, question: bytes) -> bytes:
    """What the shard says, for `answer_of`."""
    asked: Question = pickle.loads(question)
    answer: object
    try:
        answer = _ANSWERS[asked.about](collection, **asked.given)
    except VireoError as error:
        answer = _Refused(type(error), error.message)
    return pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)


def answer_of(answer: bytes) -> Any:  # noqa: ANN401  by the question
    """Raises what the shard refused the question with."""
    found = pickle.loads(answer)
    if isinstance(found, _Refused):
        raise found.kind(found.message)
    return found


def _search(collection: FollowedCollection, queries: Sequence[Query], explain: bool) -> list[HitColumns]:
    told = [collection.search(each, explain=True) for each in queries] if explain else None
    found = collection.search_many(queries) if told is None else told
    return [HitColumns.of(each, query) for each, query in zip(found, queries, strict=True)]


def _get(
    collection: FollowedCollection,
    ids: Sequence[PointId],
    payload: Sequence[str],
    vectors: Sequence[str],
    tenant: str | None,
) -> list[Hit]:
    return [_whole(each) for each in collection.get(ids, payload=payload, vectors=vectors, tenant=tenant)]


def _scroll(
    collection: FollowedCollection, filter_: Filter | None, limit: int, after: PointId | None, payload: Sequence[str],
    vectors: Sequence[str], tenant: str | None,
) -> tuple[list[Hit], PointId | None]:  # fmt: skip
    found, last = collection.scroll(
        filter_=filter_, limit=limit, after=after, payload=payload, vectors=vectors, tenant=tenant
    )
    return [_whole(each) for each in found], last


def _whole(hit: Hit) -> Hit:
    """With mappings of its own, which can be sent."""
    return Hit(hit.id, hit.score, dict(hit.payload), dict(hit.vectors))


def _count(collection: FollowedCollection, filter_: Filter | None, tenant: str | None) -> int:
    return collection.count(filter_, tenant=tenant)


def _info(collection: FollowedCollection) -> CollectionInfo:
    return collection.info()


_ANSWERS: Final[Mapping[str, Callable[..., object]]] = {
    "search": _search,
    "get": _get,
    "scroll": _scroll,
    "count": _count,
    "info": _info,
}
