"""What a collection's spec may say together, and what it may become later. Pure; loads neither Arrow nor numba.

`problems_of` names each problem by the key it is at; the spec file's reader tells the first with its line, a client that makes a
collection is told it by its path.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Final

from engine.duration import duration_us
from engine.errors import FailedPrecondition, InvalidArgument, SpecError, nearest, quoted
from engine.limits import (
    COLLECTION_NAME_CHARS_MAX,
    COLLECTION_NAMES_MAX,
    COLLECTION_POINTS_CEILING,
    NAME_CHARS_MAX,
    SEARCH_CANDIDATES_MAX,
    SEGMENT_ROWS_GROWING_MAX,
    SNAPSHOTS_KEPT_MAX,
    VECTOR_DIMENSIONS_MAX,
)
from engine.strict_yaml import Place
from engine.vectors.declaration import (
    CollectionSpec,
    EmbedderSpec,
    FieldSpec,
    IndexSpec,
    PublishedSpec,
    QuotaSpec,
    VectorSpec,
    VectorStoreSpec,
)
from engine.vectors.index import LISTS_MAX

Problem = tuple[str, str]
"""The key it is at, below the collection, and what is wrong."""

_COLLECTION: Final = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{COLLECTION_NAME_CHARS_MAX - 1}}}")
_LINKS_MIN, _LINKS_MAX = 4, 256


def check_vector_store(store: VectorStoreSpec | None, taken: Mapping[str, str], place: Place) -> None:
    """Raises SpecError with the place in the file. `taken`: folders that are others' already, by the key that says so."""
    if store is None:
        return
    if not store.path.strip():
        raise SpecError(f"{place('vectors.path')}: expected a folder, got nothing")
    for where, path in taken.items():
        if _is_within(path, store.path):
            raise SpecError(f"{place('vectors.path')}: {quoted(store.path)} is not the collections' alone, see {where}")
    for module, extra in (("pyarrow", "features"), ("numba", "features"), ("faiss", "cpu")):
        if find_spec(module) is None:
            raise SpecError(
                f"{place('vectors')}: needs what is not installed; pip install 'vireo[{extra}]': no {module}"
            )
    for name, spec in store.collections.items():
        where = f"vectors.collections.{name}"
        problem = name_problem(name)
        if problem is not None:
            raise SpecError(f"{place(where)}: {problem}")
        for key, what in problems_of(spec):
            raise SpecError(f"{place(f'{where}.{key}' if key else where)}: {what}")


def check_in_shards(store: VectorStoreSpec | None, served: Collection[str], place: Place) -> bool:
    """Whether the collections are in shards: `served` are the names that deployments serve. Raises SpecError where some are and
    some not, or where clients may make others."""
    apart = {} if store is None else {name: name in served for name in store.collections}
    if store is None or not any(apart.values()):
        return False
    if here := [name for name, there in apart.items() if not there]:
        raise SpecError(
            f"{place(f'vectors.collections.{here[0]}')}: is in no deployment with 'shards', and others are: all or none"
        )
    if not store.fixed:
        raise SpecError(
            f"{place('vectors.fixed')}: must be true where collections are in shards: no other can be made beside them"
        )
    return True


def collection_sharding_problem(
    name: str, spec: CollectionSpec, *, taken: Collection[str], gathered: Collection[str]
) -> str | None:
    """Why a collection cannot be shared out among processes; None where it can. `taken`: names of servables; `gathered`:
    collections that gathers take of."""
    if spec.kafka is None:
        return "its log is one process's folder; shards follow a topic of Kafka"
    if name in taken:
        return "a function, a model or another servable has that name too, and placement goes by names"
    if name in gathered:
        return "a gather takes of it, which reads its memory"
    return None


def _is_within(path: str, folder: str) -> bool:
    inner, outer = posixpath.normpath(path), posixpath.normpath(folder)
    if outer == ".":
        return not inner.startswith(("/", ".."))
    return inner == outer or inner.startswith(outer.rstrip("/") + "/")


def check_name(name: str, what: str = "collection") -> None:
    """Raises InvalidArgument for what cannot be the name of a collection or an alias."""
    problem = name_problem(name)
    if problem is not None:
        raise InvalidArgument(f"{what}: {problem}")


def check_collection(spec: CollectionSpec, path: str = "collection") -> None:
    """Raises InvalidArgument, "collection.vectors.text.size: must be from 1 to 65536, got 0"."""
    for key, what in problems_of(spec):
        raise InvalidArgument(f"{path}.{key}: {what}" if key else f"{path}: {what}")


def name_problem(name: str) -> str | None:
    """Of a collection or an alias, which is a folder and part of a URL."""
    if _COLLECTION.fullmatch(name) and ".." not in name:
        return None
    return (
        f"a name has from 1 to {COLLECTION_NAME_CHARS_MAX} letters, digits, '_', '-' and single '.', and begins with neither of "
        f"the last two, got {quoted(name)}"
    )


def problems_of(spec: CollectionSpec) -> Iterator[Problem]:
    """All of them, in the order of the keys."""
    for kind, names in (("vectors", spec.vectors), ("sparse", spec.sparse), ("fields", spec.fields)):
        yield from _name_problems(kind, names)
    for name, vector in spec.vectors.items():
        yield from _below(f"vectors.{name}", _vector_problems(vector))
    for name in spec.sparse:
        if name in spec.vectors:
            yield f"sparse.{name}", "a dense vector has that name; points give both by it"
    for name, field in spec.fields.items():
        yield from _below(f"fields.{name}", _field_problems(field))
    searchable = any(not each.multi for each in spec.vectors.values()) or spec.sparse
    if not searchable and not any(each.type == "text" for each in spec.fields.values()):
        yield "", "nothing can be searched: declare a vector that is no multi-vector, a sparse vector or a text field"
    yield from _tenant_problems(spec)
    yield from _range_problem("quota.points_max", spec.quota.points_max, 1, COLLECTION_POINTS_CEILING)
    yield from _range_problem("quota.tenant_points_max", spec.quota.tenant_points_max, 1, COLLECTION_POINTS_CEILING)
    yield from _range_problem("growing_rows", spec.growing_rows, 1, SEGMENT_ROWS_GROWING_MAX)
    yield from _range_problem("recall_sample", spec.recall_sample, 0, 1)
    yield from _topic_problems(spec)


def _name_problems(kind: str, names: Mapping[str, object]) -> Iterator[Problem]:
    if len(names) > COLLECTION_NAMES_MAX:
        yield kind, f"at most {COLLECTION_NAMES_MAX} are allowed, got {len(names)}"
    for name in names:
        if not 1 <= len(name) <= NAME_CHARS_MAX or not name.isprintable():
            yield kind, f"a name has from 1 to {NAME_CHARS_MAX} printable characters, got {quoted(name)}"


def _vector_problems(spec: VectorSpec) -> Iterator[Problem]:
    index = spec.index
    yield from _range_problem("size", spec.size, 1, VECTOR_DIMENSIONS_MAX)
    if spec.stored == "binary" and spec.metric == "l2":
        yield "stored", "'binary' keeps directions, not lengths: it cannot tell the distances of metric 'l2'"
    if spec.embedder is not None:
        yield from _below("embedder", _embedder_problems(spec.embedder, multi=spec.multi))
    if spec.multi:
        if spec.stored == "binary":
            yield "stored", "a multi-vector scores candidates again, and signs tell too little to do so"
        if spec.metric == "l2":
            yield "metric", "multi-vectors are scored by dot products: 'cosine' or 'dot'"
        if index != IndexSpec():
            yield "index", "a multi-vector is never searched, so it has no index"
        return
    yield from _below("index", _index_problems(index, spec))


def _embedder_problems(spec: EmbedderSpec, *, multi: bool) -> Iterator[Problem]:
    if multi:
        yield "model", "a multi-vector is never searched, so nothing embeds queries for it"
    if not spec.model:
        yield "model", "must name a model"
    yield from _range_problem("version", spec.version, 1, float("inf"))


def _index_problems(index: IndexSpec, spec: VectorSpec) -> Iterator[Problem]:
    if index.kind == "binary" and spec.metric == "l2":
        yield "kind", "'binary' finds directions, not the distances of metric 'l2'"
    if spec.stored == "binary" and index.kind not in ("auto", "flat", "binary"):
        yield "kind", f"of what is stored as 'binary' an index is 'auto', 'flat' or 'binary', got {quoted(index.kind)}"
    if index.lists is not None and index.kind not in ("auto", "ivf_pq"):
        yield "lists", f"belongs to kind 'ivf_pq', got {quoted(index.kind)}"
    yield from _range_problem("candidates", index.candidates, 1, SEARCH_CANDIDATES_MAX)
    yield from _range_problem("lists", index.lists, 1, LISTS_MAX)
    yield from _range_problem("links", index.links, _LINKS_MIN, _LINKS_MAX)


def _field_problems(spec: FieldSpec) -> Iterator[Problem]:
    if spec.stemmer is None:
        return
    if spec.type != "text":
        yield "stemmer", f"belongs to a text field, and this one is {spec.type}"
        return
    from engine.vectors.words import stemmer_problem

    if (problem := stemmer_problem(spec.stemmer)) is not None:
        yield "stemmer", problem


def _tenant_problems(spec: CollectionSpec) -> Iterator[Problem]:
    if spec.tenant is None:
        if spec.quota.tenant_points_max is not None:
            yield "quota.tenant_points_max", "belongs to a collection with tenants; 'tenant' names their field"
        return
    field = spec.fields.get(spec.tenant)
    if field is None:
        yield "tenant", f"no field {quoted(spec.tenant)}{nearest(spec.tenant, spec.fields)}"
    elif field.type != "keyword" or field.array:
        kind = f"an array of {field.type}" if field.array else field.type
        yield "tenant", f"field {quoted(spec.tenant)} is {kind}, expected a keyword"


def _topic_problems(spec: CollectionSpec) -> Iterator[Problem]:
    from engine.vectors.rows import ID

    kafka, snapshot = spec.kafka, spec.snapshot
    if kafka is None:
        if snapshot is not None:
            yield "snapshot", "belongs to a collection whose log is a topic of Kafka ('kafka')"
        return
    if kafka.format != "arrow":
        yield "kafka.format", f"the entries of a collection are 'arrow', got {quoted(kafka.format)}"
    if kafka.key not in (None, ID):
        yield "kafka.key", f"points are keyed by {quoted(ID)}, got {quoted(kafka.key or '')}"
    for key in ("avro_schema", "avro_schema_id", "group", "dead_letter_topic"):
        if getattr(kafka, key) is not None:
            yield f"kafka.{key}", "a collection's topic has none"
    if spec.quota != QuotaSpec():
        yield "quota", "several may write to a topic, who do not see each other's points; leave it out"
    if spec.durability != "fsync":
        yield "durability", "is the broker's"
    if snapshot is not None:
        yield from _below("snapshot", _published_problems(snapshot))


def _published_problems(spec: PublishedSpec) -> Iterator[Problem]:
    try:
        yield from _range_problem("every", duration_us(spec.every) / 1e6, 1, 86_400)
    except SpecError as error:
        yield "every", error.message
    yield from _range_problem("keep", spec.keep, 1, SNAPSHOTS_KEPT_MAX)


def check_clients(spec: CollectionSpec) -> None:
    """Raises InvalidArgument where only a spec's file may declare such a collection: it names servers, and secrets of this
    process."""
    if spec.kafka is not None:
        raise InvalidArgument(
            "collection.kafka: only collections that the spec's file declares have their log on Kafka"
        )


def _below(where: str, problems: Iterator[Problem]) -> Iterator[Problem]:
    for key, what in problems:
        yield f"{where}.{key}", what


def _range_problem(key: str, value: float | None, low: float, high: float) -> Iterator[Problem]:
    if value is not None and not low <= value <= high:  # NaN is nowhere
        yield key, f"must be from {low} to {high}, got {value}"


def check_alter(old: CollectionSpec, new: CollectionSpec, ever: CollectionSpec | None, *, empty: bool) -> None:
    """Raises FailedPrecondition where a collection of `old` cannot become `new`; InvalidArgument where `new` is none.

    `ever`: all names it ever had, see `remembered`: what was stored under one is still there, and is not to be read as something
    else when the name comes back. `empty`: it has no points, nor had since.
    """
    check_collection(new)
    from engine.vectors.manifest import check_reads_as

    check_reads_as(old, new, empty=empty)
    if empty:
        return
    if new.tenant != old.tenant:
        raise FailedPrecondition(f"tenant is {old.tenant}, the spec says {new.tenant}: stored points have other owners")
    before = remembered(old, ever)
    check_reads_as(before, new, empty=False)
    for name, field in new.fields.items():
        was = before.fields.get(name)
        if was is not None and was.stemmer != field.stemmer:
            raise FailedPrecondition(
                f"field {quoted(name)}: stemmer is {was.stemmer}, the spec says {field.stemmer}: stored words have other endings"
            )


def remembered(spec: CollectionSpec, ever: CollectionSpec | None) -> CollectionSpec:
    """`spec` with all vectors and fields that it had before (`ever`, None is none) besides."""
    if ever is None:
        return spec
    return replace(
        spec,
        vectors={**ever.vectors, **spec.vectors},
        sparse={**ever.sparse, **spec.sparse},
        fields={**ever.fields, **spec.fields},
    )
