"""What vector collections are and how a query is answered, as text for people."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine import AnyCollection, AnyFound, CollectionDescription, Query


def collection_lines(described: CollectionDescription) -> Iterator[str]:
    """One collection: its vectors, and where its points lie."""
    aliases = f", also {', '.join(described.aliases)}" if described.aliases else ""
    yield f"collection {described.name}{aliases}"
    if described.problem:
        yield f"  PROBLEM: {described.problem}"
    if described.spec is None or described.info is None:
        return
    for name, vector in described.spec.vectors.items():
        kind = "multi-vector" if vector.multi else f"index {vector.index.kind}"
        yield f"  vector {name}: {vector.size} dimensions, {vector.metric}, stored as {vector.stored}, {kind}"
    for name, field in described.spec.fields.items():
        yield f"  field {name}: {field.type}{', array' if field.array else ''}"
    info = described.info
    yield f"  {info.points} points; a restart reads {info.offset - info.replay_from} entries of the log again"
    for part in info.parts:
        indexes = ", ".join(f"{name}: {kind}" for name, kind in sorted(part.indexes.items()))
        yield f"  {part.name}: {part.alive} of {part.rows} rows live, {indexes or 'no vectors'}, {part.bytes} bytes"
    if info.problem:
        yield f"  background work fails: {info.problem}"


def query_lines(collection: AnyCollection, query: Query) -> Iterator[str]:
    """How one query is answered now: each part's plan and why, the hits, and how many of the true ones are among them."""
    collection.search(query)  # what is worked out once is not counted
    begin = time.perf_counter()
    found = collection.search(query, explain=True)
    took_us = (time.perf_counter() - begin) * 1e6
    yield f"query of collection {collection.name}: {len(found)} hits in {took_us:.0f} µs"
    for plan in found.plans:
        yield f"  {plan}"
    yield f"  {_recall(collection, query, found)}"
    for hit in found.hits:
        yield f"  {hit.id}: {hit.score:.6g}"


def _recall(collection: AnyCollection, query: Query, found: AnyFound) -> str:
    exact = collection.search(replace(query, params=replace(query.params, exact=True)))
    true = {each.id for each in exact.hits}
    if not true:
        return "an exact search finds nothing either"
    share = len(true & {each.id for each in found.hits}) / len(true)
    return f"{share:.2f} of what an exact search finds is among them"
