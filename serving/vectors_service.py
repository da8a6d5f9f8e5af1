"""`vireo.v1.Vectors` as a table of methods on message bytes. It knows no transport.

A plain search takes some 0.1 ms and is answered on the event loop, without a task where the transport can; all else runs on
threads.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from engine import (
    AnyCollection,
    AnyFound,
    Deadline,
    InvalidArgument,
    Query,
    VireoError,
    Written,
    collection_spec_of,
    limits,
    offsets_of,
    points_of,
)
from protos.vireo.v1 import vectors_pb2 as pb
from serving.codec import check_name, parse
from serving.dispatch import Dispatch
from serving.methods import Call, Exchange, Method, answer_later
from serving.status import grpc_code, told
from serving.vectors_codec import (
    K_DEFAULT,
    collection_message,
    encode_found,
    found_message,
    id_message,
    names,
    point_message,
    query_of,
    snapshot_message,
)
from serving.vectors_turn import SearchTurn
from serving.vectors_values import filter_of, named, plain_payload, plain_point, point_id, point_ids, struct_values
from serving.vectors_work import VectorsWork, is_short

if TYPE_CHECKING:
    from typing_extensions import Buffer

SERVICE: Final = "vireo.v1.Vectors"
Answer = Callable[[Any, Deadline], Any]


class VectorsService:
    """The service's methods over one engine."""

    def __init__(self, dispatch: Dispatch, work: VectorsWork) -> None:
        self._store = dispatch.engine.vectors
        self._work = work
        self._turn = SearchTurn()

    def methods(self) -> list[Method]:
        """Every method of the service."""
        questions: dict[str, tuple[Any, Answer]] = {
            "SearchBatch": (pb.SearchBatchRequest, self._search_batch),
            "Get": (pb.GetPointsRequest, self._get),
            "Scroll": (pb.ScrollRequest, self._scroll),
            "Count": (pb.CountRequest, self._count),
        }
        reads: dict[str, tuple[Any, Answer]] = {
            "ListCollections": (pb.ListCollectionsRequest, self._list_collections),
            "DescribeCollection": (pb.DescribeCollectionRequest, self._describe),
            "ListAliases": (pb.ListAliasesRequest, self._list_aliases),
            "ListSnapshots": (pb.ListSnapshotsRequest, self._list_snapshots),
        }
        writes: dict[str, tuple[Any, Answer]] = {
            "Upsert": (pb.UpsertRequest, self._upsert),
            "Delete": (pb.DeleteRequest, self._delete),
            "SetPayload": (pb.SetPayloadRequest, self._set_payload),
            "ClearPayload": (pb.ClearPayloadRequest, self._clear_payload),
            "CreateCollection": (pb.CreateCollectionRequest, self._create),
            "AlterCollection": (pb.AlterCollectionRequest, self._alter),
            "DropCollection": (pb.DropCollectionRequest, self._drop),
            "ChangeAliases": (pb.ChangeAliasesRequest, self._change_aliases),
            "CreateSnapshot": (pb.CreateSnapshotRequest, self._create_snapshot),
            "DropSnapshot": (pb.DropSnapshotRequest, self._drop_snapshot),
            "Restore": (pb.RestoreRequest, self._restore),
        }
        return [
            Method(_path("Search"), unary=self._search, direct=self._search_direct),
            Method(_path("UpsertStream"), stream=self._upsert_stream),
            *(Method(_path(name), unary=self._asking(*each)) for name, each in questions.items()),
            *(Method(_path(name), unary=_answering(self._work.read, *each)) for name, each in reads.items()),
            *(Method(_path(name), unary=_answering(self._work.write, *each)) for name, each in writes.items()),
        ]

    def _collection(self, name: str) -> AnyCollection:
        return self._store.collection(check_name("collection", name))

    def _reading(self, request: Any, deadline: Deadline) -> AnyCollection:  # noqa: ANN401
        """What is asked, once it shows the write of the request's token. Waits for that."""
        return self._collection(request.collection).reading(offsets_of(request.after_token), deadline)

    def _asking(self, kind: Any, answer: Answer) -> Callable[[Call, bytes], Any]:  # noqa: ANN401
        async def handler(call: Call, message: bytes) -> bytes:
            deadline, reading = call.deadline, partial(parse, kind, message)
            small = len(message) <= limits.LOOKUP_INLINE_BYTES_MAX
            request = reading() if small else await self._work.read(deadline, reading)
            asked = request.searches if kind is pb.SearchBatchRequest else [request]
            run = self._work.wait if any(each.after_token for each in asked) else self._work.read
            encoded: bytes = await run(deadline, lambda: answer(request, deadline).SerializeToString())
            return encoded

        return handler

    # Searches.

    def _search_direct(self, call: Exchange, message: Buffer) -> None:
        now = self._searched_now(bytes(message), call.deadline, None if call.alone else call)
        if now is None:
            return
        if isinstance(now, bytes):
            call.answer(now, "", ())
            return
        answer_later(call, now)

    async def _search(self, call: Call, message: bytes) -> bytes:
        now = self._searched_now(message, call.deadline)
        assert now is not None
        return now if isinstance(now, bytes) else await now

    def _searched_now(
        self, message: bytes, deadline: Deadline, beside: Exchange | None = None
    ) -> bytes | Coroutine[Any, Any, bytes] | None:
        """The answer, or what gives it where that takes long. None where `beside` is answered with others of its turn."""
        if len(message) > limits.LOOKUP_INLINE_BYTES_MAX:
            return self._searched_large(message, deadline)
        request = parse(pb.SearchRequest, message)
        if request.after_token:
            return self._searched_later(request, deadline)
        collection = self._collection(request.collection).reading({}, deadline)
        query = query_of(request, collection.spec)
        if request.explain or not is_short(collection, query):
            return self._work.read(deadline, partial(_searched, collection, query, request.explain))
        if beside is not None:
            self._turn.add(beside, collection, query)
            return None
        return _searched(collection, query, explain=False)

    async def _searched_large(self, message: bytes, deadline: Deadline) -> bytes:
        request = await self._work.read(deadline, partial(parse, pb.SearchRequest, message))
        return await self._searched_later(request, deadline)

    async def _searched_later(self, request: Any, deadline: Deadline) -> bytes:  # noqa: ANN401
        run = self._work.wait if request.after_token else self._work.read
        return await run(deadline, partial(self._searched, request, deadline))

    def _searched(self, request: Any, deadline: Deadline) -> bytes:  # noqa: ANN401
        collection = self._reading(request, deadline)
        return _searched(collection, query_of(request, collection.spec), request.explain)

    def _search_batch(self, request: Any, deadline: Deadline) -> Any:  # noqa: ANN401
        if len(request.searches) > limits.SEARCH_BATCH_MAX:
            raise InvalidArgument(
                f"searches: {len(request.searches)} of them, at most {limits.SEARCH_BATCH_MAX} are allowed"
            )
        queries, by_collection = [], dict[tuple[str, str], list[int]]()
        for at, each in enumerate(request.searches):
            with named(f"searches[{at}]"):
                queries.append(query_of(each, self._collection(each.collection).spec))
            by_collection.setdefault((each.collection, each.after_token), []).append(at)
        results: list[Any] = [None] * len(queries)
        for places in by_collection.values():
            collection = self._reading(request.searches[places[0]], deadline)
            found: Sequence[AnyFound] = collection.search_many(
                [queries[at] for at in places], paths=[f"searches[{at}]" for at in places]
            )
            for at, each in zip(places, found, strict=True):
                results[at] = found_message(each, queries[at])
        return pb.SearchBatchResponse(results=results)

    # Points.

    def _upsert(self, request: Any, deadline: Deadline) -> Any:  # noqa: ANN401
        collection = self._collection(request.collection)
        patience_s = self._work.patience_s(deadline)
        points = _points_in(request, collection)
        tenant = request.tenant or None
        return _written(collection.upsert(points, tenant=tenant, deadline_s=patience_s))

    async def _upsert_stream(self, call: Call, messages: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        async for message in messages:
            try:
                work = partial(self._upsert_message, message, call.deadline)
                answer = pb.UpsertStreamResponse(written=await self._work.write(call.deadline, work))
            except VireoError as error:
                failed = pb.WriteError(code=grpc_code(error), message=told(error), retryable=error.retryable)
                answer = pb.UpsertStreamResponse(error=failed)
            yield answer.SerializeToString()

    def _upsert_message(self, message: bytes, deadline: Deadline) -> Any:  # noqa: ANN401
        return self._upsert(parse(pb.UpsertRequest, message), deadline)

    def _delete(self, request: Any, deadline: Deadline) -> Any:  # noqa: ANN401
        collection = self._collection(request.collection)
        ids, filter_ = _chosen(request, collection)
        tenant = request.tenant or None
        if ids is not None:
            return _written(collection.delete(ids, tenant=tenant))
        return _written(collection.delete_matching(filter_, tenant=tenant))

    def _set_payload(self, request: Any, deadline: Deadline) -> Any:  # noqa: ANN401
        collection = self._collection(request.collection)
        ids, filter_ = _chosen(request, collection)
        values = plain_payload(request.payload, "request")
        return _written(
            collection.set_payload(
                values, ids=ids, filter_=filter_, tenant=request.tenant or None, replace=request.replace
            )
        )

    def _clear_payload(self, request: Any, deadline: Deadline) -> Any:  # noqa: ANN401
        collection = self._collection(request.collection)
        ids, filter_ = _chosen(request, collection)
        fields = list(request.fields) or None
        return _written(collection.clear_payload(fields, ids=ids, filter_=filter_, tenant=request.tenant or None))

    def _get(self, request: Any, deadline: Deadline) -> Any:  # noqa: ANN401
        collection = self._reading(request, deadline)
        spec = collection.spec
        found = collection.get(
            point_ids(request.ids), payload=names(request.payload, spec.fields),
            vectors=names(request.vectors, spec.vectors), tenant=request.tenant or None,
        )  # fmt: skip
        return pb.Points(points=[point_message(each, spec) for each in found])

    def _scroll(self, request: Any, deadline: Deadline) -> Any:  # noqa: ANN401
        collection = self._reading(request, deadline)
        spec = collection.spec
        found, after = collection.scroll(
            filter_=filter_of(request.filter, spec) if request.HasField("filter") else None,
            limit=request.limit or K_DEFAULT, after=point_id(request.after, "after") if request.HasField("after") else None,
            payload=names(request.payload, spec.fields), vectors=names(request.vectors, spec.vectors),
            tenant=request.tenant or None,
        )  # fmt: skip
        message = pb.Points(points=[point_message(each, spec) for each in found])
        if after is not None:
            message.next.CopyFrom(id_message(after))
        return message

    def _count(self, request: Any, deadline: Deadline) -> Any:  # noqa: ANN401
        collection = self._reading(request, deadline)
        filter_ = filter_of(request.filter, collection.spec) if request.HasField("filter") else None
        return pb.CountResponse(count=collection.count(filter_, tenant=request.tenant or None))

    # Collections.

    def _create(self, request: Any, deadline: Deadline) -> Any:  # noqa: ANN401
        self._store.create(request.collection, collection_spec_of(struct_values(request.spec)))
        return collection_message(self._store.describe(request.collection))

    def _alter(self, request: Any, deadline: Deadline) -> Any:  # noqa: ANN401
        self._store.alter(request.collection, collection_spec_of(struct_values(request.spec)))
        return collection_message(self._store.describe(request.collection))

    def _drop(self, request: Any, deadline: Deadline) -> Any:  # noqa: ANN401
        self._store.drop(request.collection)
        return pb.DropCollectionResponse()

    def _list_collections(self, request: Any, deadline: Deadline) -> Any:  # noqa: ANN401
        return pb.ListCollectionsResponse(collections=self._store.names())

    def _describe(self, request: Any, deadline: Deadline) -> Any:  # noqa: ANN401
        return collection_message(self._store.describe(check_name("collection", request.collection)))

    def _change_aliases(self, request: Any, deadline: Deadline) -> Any:  # noqa: ANN401
        self._store.change_aliases({alias: name or None for alias, name in request.aliases.items()})
        return pb.ChangeAliasesResponse()

    def _list_aliases(self, request: Any, deadline: Deadline) -> Any:  # noqa: ANN401
        return pb.ListAliasesResponse(aliases=self._store.aliases())

    # Snapshots.

    def _create_snapshot(self, request: Any, deadline: Deadline) -> Any:  # noqa: ANN401
        return snapshot_message(self._store.snapshot(request.collection))

    def _list_snapshots(self, request: Any, deadline: Deadline) -> Any:  # noqa: ANN401
        found = self._store.snapshots(request.collection)
        return pb.ListSnapshotsResponse(snapshots=[snapshot_message(each) for each in found])

    def _drop_snapshot(self, request: Any, deadline: Deadline) -> Any:  # noqa: ANN401
        self._store.drop_snapshot(request.collection, request.snapshot)
        return pb.DropSnapshotResponse()

    def _restore(self, request: Any, deadline: Deadline) -> Any:  # noqa: ANN401
        self._store.restore(request.collection, request.snapshot, source=request.source or None)
        return collection_message(self._store.describe(request.collection))


def _searched(collection: AnyCollection, query: Query, explain: bool) -> bytes:
    return encode_found(collection.search(query, explain=explain), query)


def _points_in(request: Any, collection: AnyCollection) -> pa.RecordBatch:  # noqa: ANN401
    if not request.arrow:
        return points_of(
            collection.spec, [plain_point(each, f"points[{at}]") for at, each in enumerate(request.points)]
        )
    if request.points:
        raise InvalidArgument("upsert: has both 'points' and 'arrow'")
    return arrow_points(request.arrow)


def arrow_points(given: bytes) -> pa.RecordBatch:
    """The rows of an Arrow IPC stream, not checked yet. Raises InvalidArgument where it is damaged or has none."""
    try:
        with pa.ipc.open_stream(pa.py_buffer(given)) as stream:
            batches = [each for each in stream if each.num_rows]
        for each in batches:
            each.validate(full=True)
        if batches:
            return batches[0] if len(batches) == 1 else pa.concat_batches(batches)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InvalidArgument(f"not a valid Arrow IPC stream: {error}") from error
    raise InvalidArgument("the Arrow IPC stream has no rows")


def _chosen(request: Any, collection: AnyCollection) -> tuple[Any, Any]:  # noqa: ANN401
    """Ids or a filter, the other one is None. Raises InvalidArgument."""
    if request.HasField("filter"):
        if request.ids:
            raise InvalidArgument("request: has both 'ids' and 'filter'")
        return None, filter_of(request.filter, collection.spec)
    if not request.ids:
        raise InvalidArgument("request: has neither 'ids' nor 'filter'")
    return point_ids(request.ids), None


def _written(found: Written) -> Any:  # noqa: ANN401
    return pb.Written(offset=found.offset, count=found.count, token=found.token)


def _path(name: str) -> str:
    return f"/{SERVICE}/{name}"


def _answering(run: Any, kind: Any, answer: Answer) -> Callable[[Call, bytes], Any]:  # noqa: ANN401
    async def handler(call: Call, message: bytes) -> bytes:
        deadline = call.deadline
        encoded: bytes = await run(deadline, lambda: answer(parse(kind, message), deadline).SerializeToString())
        return encoded

    return handler
