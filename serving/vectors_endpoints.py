"""Vector collections over HTTP (`/v1/collections/...`), as a table of endpoints: JSON, and Arrow for points in bulk.

Of a collection with tenants every call says whose it is by the query parameter `tenant`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from engine import (
    AnyCollection,
    AnyFound,
    InvalidArgument,
    Query,
    Written,
    collection_spec_of,
    limits,
    offsets_of,
    points_of,
)
from serving.codec import check_name
from serving.dispatch import Dispatch
from serving.http_app import ARROW, Endpoint, HttpCall, Reply, json_reply
from serving.json_body import decoded
from serving.vectors_json import (
    BatchBody,
    ChosenBody,
    CountBody,
    GetBody,
    PayloadBody,
    ScrollBody,
    SearchBody,
    UpsertBody,
    chosen_names,
    collection_out,
    filter_in,
    found_out,
    one_of,
    parsed,
    point_out,
    query_in,
    snapshot_out,
)
from serving.vectors_service import arrow_points
from serving.vectors_values import named
from serving.vectors_work import VectorsWork, is_short

_ROOT: Final = "/v1/collections"
_ONE: Final = "/v1/collections/{collection}"
Work = Callable[[AnyCollection, str | None, bytes], Any]


class VectorsEndpoints:
    """The endpoints over one engine."""

    def __init__(self, dispatch: Dispatch, work: VectorsWork) -> None:
        self._store = dispatch.engine.vectors
        self._work = work

    def endpoints(self) -> list[Endpoint]:
        """Every endpoint, the busiest first."""
        return [
            Endpoint("POST", f"{_ONE}/search", self._search, "The best points for a query", takes="VectorSearch"),
            Endpoint("POST", f"{_ONE}/search/batch", self._read(_search_batch), "Several searches of one state"),
            Endpoint(
                "PUT", f"{_ONE}/points", self._upsert, "New points, or instead of those of their ids", takes="Points"
            ),
            Endpoint("POST", f"{_ONE}/points/delete", self._write(_delete), "Delete points by ids or a filter"),
            Endpoint("POST", f"{_ONE}/points/payload", self._write(_set_payload), "Change fields of points"),
            Endpoint("POST", f"{_ONE}/points/payload/clear", self._write(_clear_payload), "Leave fields of points out"),
            Endpoint("POST", f"{_ONE}/points/get", self._read(_get), "Points by their ids"),
            Endpoint("POST", f"{_ONE}/scroll", self._read(_scroll), "Points by ascending id, page by page"),
            Endpoint("POST", f"{_ONE}/count", self._read(_count), "How many points a filter is about"),
            Endpoint("GET", _ROOT, self._list, "The names of the collections"),
            Endpoint("GET", f"{_ROOT}-aliases", self._aliases, "Aliases of collections"),
            Endpoint("POST", f"{_ROOT}-aliases", self._change_aliases, "Change aliases, all at once"),
            Endpoint("GET", _ONE, self._describe, "A collection: declaration and state"),
            Endpoint("PUT", _ONE, self._create, "Create a collection"),
            Endpoint("PATCH", _ONE, self._alter, "Declare a collection anew; its points are kept"),
            Endpoint("DELETE", _ONE, self._drop, "Drop a collection"),
            Endpoint("POST", f"{_ONE}/snapshots", self._snapshot, "Take a snapshot"),
            Endpoint("GET", f"{_ONE}/snapshots", self._snapshots, "The snapshots of a collection"),
            Endpoint("DELETE", f"{_ONE}/snapshots/{{snapshot}}", self._drop_snapshot, "Drop a snapshot"),
            Endpoint("POST", f"{_ONE}/snapshots/{{snapshot}}/restore", self._restore, "Make the collection a snapshot"),
        ]

    def _named(self, call: HttpCall) -> str:
        return check_name("collection", call.path["collection"])

    def _asked(self, call: HttpCall) -> tuple[AnyCollection, str | None]:
        """The collection, and the tenant. Raises NotFound, InvalidArgument."""
        return self._store.collection(self._named(call)), _single(call.query("tenant"), "tenant")

    def _asked_after(self, call: HttpCall) -> tuple[AnyCollection, str | None, dict[int, int]]:
        """Likewise, and what of its log it is to show."""
        given = call.query("tenant", "after")
        after = offsets_of(_single(given, "after") or "")
        return self._store.collection(self._named(call)), _single(given, "tenant"), after

    def _read(self, work: Work) -> Callable[[HttpCall], Awaitable[Reply]]:
        async def run(call: HttpCall) -> Reply:
            collection, tenant, after = self._asked_after(call)
            deadline = call.deadline
            body = await call.body()
            pool = self._work.wait if after else self._work.read
            return json_reply(await pool(deadline, lambda: work(collection.reading(after, deadline), tenant, body)))

        return run

    def _write(self, work: Work) -> Callable[[HttpCall], Awaitable[Reply]]:
        async def run(call: HttpCall) -> Reply:
            collection, tenant = self._asked(call)
            deadline = call.deadline
            body = await call.body()
            return json_reply(await self._work.write(deadline, partial(work, collection, tenant, body)))

        return run

    # Searches and points.

    async def _search(self, call: HttpCall) -> Reply:
        collection, tenant, after = self._asked_after(call)
        deadline = call.deadline
        asked = parsed(await call.body(), SearchBody)
        query = query_in(asked, collection.spec, tenant)
        if not after and is_short(collection, query) and not asked.explain:
            return json_reply(self._work.in_time(deadline, partial(_searched, collection, query, False)))
        run = self._work.wait if after else self._work.read
        work = lambda: _searched(collection.reading(after, deadline), query, asked.explain)  # noqa: E731
        return json_reply(await run(deadline, work))

    async def _upsert(self, call: HttpCall) -> Reply:
        collection, tenant = self._asked(call)
        deadline = call.deadline
        body = await call.body()
        patience_s = self._work.patience_s(deadline)
        is_arrow = call.headers().get("content-type", "").partition(";")[0].strip().lower() == ARROW
        work = partial(_upserted, collection, tenant, body, is_arrow=is_arrow, patience_s=patience_s)
        return json_reply(await self._work.write(deadline, work))

    # Collections.

    async def _list(self, call: HttpCall) -> Reply:
        return json_reply({"collections": list(self._store.names())})

    async def _aliases(self, call: HttpCall) -> Reply:
        return json_reply({"aliases": dict(self._store.aliases())})

    async def _change_aliases(self, call: HttpCall) -> Reply:
        """{"aliases": {alias: collection, or null to drop it}}."""
        body = decoded(await call.body(), dict[str, Any])
        changes = body.get("aliases")
        if not isinstance(changes, dict) or not all(isinstance(each, str | None) for each in changes.values()):
            raise InvalidArgument("request body: expected {'aliases': {ALIAS: COLLECTION or null}}")
        await self._work.write(call.deadline, partial(self._store.change_aliases, changes))
        return json_reply({"aliases": dict(self._store.aliases())})

    async def _describe(self, call: HttpCall) -> Reply:
        describe = partial(self._store.describe, self._named(call))
        return json_reply(collection_out(await self._work.read(call.deadline, describe)))

    async def _create(self, call: HttpCall) -> Reply:
        name, deadline = self._named(call), call.deadline
        spec = collection_spec_of(decoded(await call.body(), dict[str, Any]))
        await self._work.write(deadline, partial(self._store.create, name, spec))
        return json_reply(collection_out(self._store.describe(name)))

    async def _alter(self, call: HttpCall) -> Reply:
        name, deadline = self._named(call), call.deadline
        spec = collection_spec_of(decoded(await call.body(), dict[str, Any]))
        await self._work.write(deadline, partial(self._store.alter, name, spec))
        return json_reply(collection_out(self._store.describe(name)))

    async def _drop(self, call: HttpCall) -> Reply:
        await self._work.write(call.deadline, partial(self._store.drop, self._named(call)))
        return json_reply({})

    # Snapshots.

    async def _snapshot(self, call: HttpCall) -> Reply:
        taken = await self._work.write(call.deadline, partial(self._store.snapshot, self._named(call)))
        return json_reply(snapshot_out(taken))

    async def _snapshots(self, call: HttpCall) -> Reply:
        found = await self._work.read(call.deadline, partial(self._store.snapshots, self._named(call)))
        return json_reply({"snapshots": [snapshot_out(each) for each in found]})

    async def _drop_snapshot(self, call: HttpCall) -> Reply:
        name, snapshot = self._named(call), call.path["snapshot"]
        await self._work.write(call.deadline, partial(self._store.drop_snapshot, name, snapshot))
        return json_reply({})

    async def _restore(self, call: HttpCall) -> Reply:
        name, snapshot = self._named(call), call.path["snapshot"]
        source = call.query("source")["source"]
        work = partial(self._store.restore, name, snapshot, source=source[-1] if source else None)
        await self._work.write(call.deadline, work)
        return json_reply(collection_out(self._store.describe(name)))


def _searched(collection: AnyCollection, query: Query, explain: bool) -> dict[str, Any]:
    return found_out(collection.search(query, explain=explain), query)


def _search_batch(collection: AnyCollection, tenant: str | None, body: bytes) -> dict[str, Any]:
    asked = parsed(body, BatchBody).searches
    if len(asked) > limits.SEARCH_BATCH_MAX:
        raise InvalidArgument(f"searches: {len(asked)} of them, at most {limits.SEARCH_BATCH_MAX} are allowed")
    queries, paths = list[Query](), [f"searches[{at}]" for at in range(len(asked))]
    for path, each in zip(paths, asked, strict=True):
        with named(path):
            queries.append(query_in(each, collection.spec, tenant))
    found: Sequence[AnyFound] = collection.search_many(queries, paths=paths)
    return {"results": [found_out(each, query) for each, query in zip(found, queries, strict=True)]}


def _upserted(
    collection: AnyCollection, tenant: str | None, body: bytes, *, is_arrow: bool, patience_s: float | None
) -> dict[str, Any]:
    points = arrow_points(body) if is_arrow else points_of(collection.spec, parsed(body, UpsertBody).points)
    return _written(collection.upsert(points, tenant=tenant, deadline_s=patience_s))


def _written(found: Written) -> dict[str, Any]:
    return {"offset": found.offset, "count": found.count, "token": found.token}


def _single(given: Mapping[str, list[str]], name: str) -> str | None:
    """A parameter of the query. Raises InvalidArgument where it is there more than once."""
    found = given[name]
    if len(found) > 1:
        raise InvalidArgument(f"{name}: one is expected, got {len(found)}")
    return found[0] if found else None


def _delete(collection: AnyCollection, tenant: str | None, body: bytes) -> dict[str, Any]:
    asked = parsed(body, ChosenBody)
    filter_ = filter_in(asked.filter, collection.spec)
    one_of(asked.ids, filter_)
    if filter_ is not None:
        return _written(collection.delete_matching(filter_, tenant=tenant))
    return _written(collection.delete(asked.ids or [], tenant=tenant))


def _set_payload(collection: AnyCollection, tenant: str | None, body: bytes) -> dict[str, Any]:
    asked = parsed(body, PayloadBody)
    if asked.payload is None or asked.fields is not None:
        raise InvalidArgument("request body: expected 'payload' and no 'fields'")
    filter_ = filter_in(asked.filter, collection.spec)
    one_of(asked.ids, filter_)
    return _written(
        collection.set_payload(asked.payload, ids=asked.ids, filter_=filter_, tenant=tenant, replace=asked.replace)
    )


def _clear_payload(collection: AnyCollection, tenant: str | None, body: bytes) -> dict[str, Any]:
    asked = parsed(body, PayloadBody)
    if asked.payload is not None or asked.replace:
        raise InvalidArgument("request body: expected 'fields', or none for all, and no 'payload'")
    filter_ = filter_in(asked.filter, collection.spec)
    one_of(asked.ids, filter_)
    return _written(collection.clear_payload(asked.fields, ids=asked.ids, filter_=filter_, tenant=tenant))


def _get(collection: AnyCollection, tenant: str | None, body: bytes) -> dict[str, Any]:
    asked = parsed(body, GetBody)
    payload = chosen_names(asked.payload, collection.spec.fields)
    vectors = chosen_names(asked.vectors, collection.spec.vectors)
    found = collection.get(asked.ids, payload=payload, vectors=vectors, tenant=tenant)
    return {"points": [point_out(each, payload=bool(payload), vectors=bool(vectors)) for each in found]}


def _scroll(collection: AnyCollection, tenant: str | None, body: bytes) -> dict[str, Any]:
    asked = parsed(body, ScrollBody)
    payload = chosen_names(asked.payload, collection.spec.fields)
    vectors = chosen_names(asked.vectors, collection.spec.vectors)
    found, after = collection.scroll(
        filter_=filter_in(asked.filter, collection.spec), limit=asked.limit, after=asked.after, payload=payload,
        vectors=vectors, tenant=tenant,
    )  # fmt: skip
    return {"points": [point_out(each, payload=bool(payload), vectors=bool(vectors)) for each in found], "next": after}


def _count(collection: AnyCollection, tenant: str | None, body: bytes) -> dict[str, int]:
    asked = parsed(body, CountBody)
    return {"count": collection.count(filter_in(asked.filter, collection.spec), tenant=tenant)}
