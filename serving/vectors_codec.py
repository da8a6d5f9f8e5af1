"""Messages of `vireo.v1.Vectors` to and from what the engine knows. Pure; it knows no transport.

A message says what is wrong with it by the path that its JSON form has: "filter.must[1].field.range: ...".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from google.protobuf import json_format

from engine import (
    AnyFound,
    CollectionDescription,
    CollectionSpec,
    DenseLeg,
    Diversity,
    FieldSpec,
    GroupBy,
    Hit,
    InvalidArgument,
    Leg,
    MaxSim,
    PointId,
    Query,
    RankFusion,
    RecommendLeg,
    ScoreFusion,
    SearchParams,
    SnapshotInfo,
    SparseLeg,
    TextLeg,
    as_plain,
)
from protos.vireo.v1 import vectors_pb2 as pb
from serving.vectors_values import Singles, filter_of, numbers, point_id, rows_of

K_DEFAULT: Final = 10
ALL: Final = "*"


def query_of(given: pb.SearchRequest, spec: CollectionSpec) -> Query:
    """Raises InvalidArgument that names what is wrong, as far as a collection need not be asked."""
    if given.legs:
        if given.HasField("vector"):
            raise InvalidArgument("search: has both 'vector' and 'legs'")
        legs = tuple(_leg(each, spec, f"legs[{at}]") for at, each in enumerate(given.legs))
    else:
        if not given.HasField("vector"):
            raise InvalidArgument("search: has neither 'vector' nor 'legs'")
        legs = (_vector_leg(given.vector, given.using, spec, ""),)
    has = given.HasField
    params = _PARAMS
    if given.candidates or given.exact or given.effort:
        params = SearchParams(given.candidates or None, given.exact, given.effort or 1.0)
    return Query(
        legs,
        given.k or K_DEFAULT,
        given.offset,
        filter_of(given.filter, spec) if has("filter") else None,
        given.tenant or None,
        _fusion(given.fusion) if has("fusion") else _FUSION,
        given.score_threshold if has("score_threshold") else None,
        GroupBy(given.group_by.field, given.group_by.size or 1) if has("group_by") else None,
        _diversity(given.diversity, spec) if has("diversity") else None,
        _rerank(given.rerank) if has("rerank") else None,
        params,
        names(given.payload, spec.fields),
        names(given.vectors, spec.vectors),
    )


_PARAMS: Final = SearchParams()
_FUSION: Final = RankFusion()


def names(given: Sequence[str], known: Mapping[str, object]) -> tuple[str, ...]:
    """As asked, where "*" is all."""
    if not given:
        return ()
    return tuple(known) if list(given) == [ALL] else tuple(given)


def only_vector(using: str, spec: CollectionSpec, path: str) -> str:
    """The dense vector meant. Raises InvalidArgument where none is named and there is not exactly one."""
    if using:
        return using
    return _only([name for name, each in spec.vectors.items() if not each.multi], f"{path}using", "vector")


def only_sparse(using: str, spec: CollectionSpec, path: str) -> str:
    """The sparse vector meant. Raises InvalidArgument as `only_vector`."""
    return using or _only(list(spec.sparse), f"{path}using", "sparse vector")


def only_text(field: str, spec: CollectionSpec, path: str) -> str:
    """The text field meant. Raises InvalidArgument as `only_vector`."""
    return field or _only([name for name, each in spec.fields.items() if each.type == "text"], path, "text field")


def _only(found: Sequence[str], path: str, what: str) -> str:
    if len(found) == 1:
        return found[0]
    if not found:
        raise InvalidArgument(f"{path}: the collection has no {what} to be searched")
    raise InvalidArgument(f"{path}: must name one of the {what}s {', '.join(sorted(found))}")


def _vector_leg(given: pb.Vector, using: str, spec: CollectionSpec, path: str) -> Leg:
    if given.indices or using in spec.sparse:
        return _sparse_leg(given, using, spec, path)
    return DenseLeg(only_vector(using, spec, path), numbers(given, f"{path}vector"))


def _sparse_leg(given: pb.Vector, using: str, spec: CollectionSpec, path: str) -> SparseLeg:
    using = only_sparse(using, spec, path)
    return SparseLeg(using, np.array(given.indices, np.uint32), numbers(given, f"{path}vector"))


def _leg(given: pb.Leg, spec: CollectionSpec, path: str) -> Leg:
    kind = given.WhichOneof("kind")
    if kind == "dense":
        return _vector_leg(given.dense.vector, given.dense.using, spec, f"{path}.dense.")
    if kind == "sparse":
        return _sparse_leg(given.sparse.vector, given.sparse.using, spec, f"{path}.sparse.")
    if kind == "text":
        return TextLeg(only_text(given.text.field, spec, f"{path}.text.field"), given.text.text)
    if kind is None:
        raise InvalidArgument(f"{path}: says nothing")
    found = given.recommend
    return RecommendLeg(
        only_vector(found.using, spec, f"{path}.recommend."),
        _examples(found.positive, f"{path}.recommend.positive"),
        _examples(found.negative, f"{path}.recommend.negative"),
    )


def _examples(given: Sequence[pb.Example], path: str) -> tuple[PointId | Singles, ...]:
    return tuple(
        numbers(each.vector, f"{path}[{at}].vector")
        if each.HasField("vector")
        else point_id(each.id, f"{path}[{at}].id")
        for at, each in enumerate(given)
    )


def _fusion(given: pb.Fusion) -> RankFusion | ScoreFusion:
    if given.WhichOneof("kind") == "scores":
        return ScoreFusion(tuple(given.scores.weights), given.scores.depth or None)
    return RankFusion(given.ranks.k or RankFusion().k, tuple(given.ranks.weights), given.ranks.depth or None)


def _diversity(given: pb.Diversity, spec: CollectionSpec) -> Diversity:
    weight = given.weight if given.HasField("weight") else 0.5
    return Diversity(only_vector(given.using, spec, "diversity."), weight, given.candidates or None)


def _rerank(given: pb.MaxSim) -> MaxSim:
    found = numbers(given.vector, "rerank.vector")
    if not given.vector.rows:
        raise InvalidArgument("rerank.vector.rows: must say how many vectors there are")
    return MaxSim(given.using, rows_of(given.vector, found, "rerank.vector"), given.candidates or None)


def encode_found(found: AnyFound, query: Query) -> bytes:
    """An encoded SearchResponse."""
    encoded: bytes = found_message(found, query).SerializeToString()
    return encoded


def found_message(found: AnyFound, query: Query) -> pb.SearchResponse:
    """As a message."""
    message = pb.SearchResponse(scores=found.scores.tolist(), plans=found.plans, missing=found.missing)
    spec = found.spec
    (message.text_ids if spec.id == "text" else message.ids).extend(found.ids.tolist())
    if query.payload or query.vectors:
        message.points.extend(point_message(each, spec) for each in found.hits)
    if found.groups is not None:
        message.groups.extend(map(id_message, found.groups))
    return message


def id_message(given: PointId) -> pb.PointId:
    """As a message."""
    return pb.PointId(text=given) if isinstance(given, str) else pb.PointId(integer=given)


def point_message(hit: Hit, spec: CollectionSpec) -> pb.Point:
    """With what it carries."""
    message = pb.Point(id=id_message(hit.id))
    for name, value in hit.payload.items():
        message.payload[name].CopyFrom(_value_message(value, spec.fields[name]))
    for name, vector in hit.vectors.items():
        message.vectors[name].CopyFrom(_vector_message(vector))
    return message


_VALUE_FIELDS: Final = {
    "keyword": "text", "text": "text", "integer": "integer", "float": "number", "bool": "flag", "datetime": "instant_us",
}  # fmt: skip


def _value_message(value: Any, spec: FieldSpec) -> pb.Value:  # noqa: ANN401  of a payload
    if spec.array:
        return pb.Value(list=pb.Values(values=[_one_message(each, spec) for each in value]))
    return _one_message(value, spec)


def _one_message(value: Any, spec: FieldSpec) -> pb.Value:  # noqa: ANN401
    if spec.type == "geo":
        return pb.Value(geo=pb.GeoPoint(lat=value[0], lon=value[1]))
    return pb.Value(**{_VALUE_FIELDS[spec.type]: value})


def _vector_message(vector: Any) -> pb.Vector:  # noqa: ANN401  of a hit
    if isinstance(vector, tuple):
        indices, values = vector
        return pb.Vector(indices=indices.tolist(), packed=values.astype("<f4").tobytes())
    rows = len(vector) if vector.ndim == 2 else 0
    return pb.Vector(packed=vector.astype("<f4").tobytes(), rows=rows)


def collection_message(given: CollectionDescription) -> pb.Collection:
    """As a message."""
    message = pb.Collection(
        collection=given.name, aliases=given.aliases, declared=given.declared, problem=given.problem or ""
    )
    if given.spec is not None:
        json_format.ParseDict(as_plain(given.spec), message.spec)
    if (info := given.info) is not None:
        message.points, message.offset, message.replay_from = info.points, info.offset, info.replay_from
        message.indexing = info.indexing
        message.problem = given.problem or info.problem or ""
        for each in info.parts:
            message.parts.add(name=each.name, rows=each.rows, alive=each.alive, indexes=each.indexes, bytes=each.bytes)
    return message


def snapshot_message(given: SnapshotInfo) -> pb.Snapshot:
    """As a message."""
    return pb.Snapshot(
        collection=given.collection, snapshot=given.name, created_us=given.created_us, bytes=given.bytes,
        points=given.points, offset=given.offset, problem=given.problem or "",
    )  # fmt: skip
