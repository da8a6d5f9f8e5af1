"""What a spec says of vector collections. Frozen values; what they may be together is checked by `engine.vectors.relations`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from engine.declaration import Value
from engine.encoders.declaration import EncodingSpec
from engine.limits import COLLECTION_POINTS_MAX, SEGMENT_ROWS_GROWING
from engine.log.declaration import KafkaLogSpec, ShardSpec

Metric = Literal["cosine", "dot", "l2"]
Stored = Literal["float32", "float16", "int8", "binary"]
FieldType = Literal["keyword", "integer", "float", "bool", "datetime", "text", "geo"]


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """What finds candidates in a sealed segment, which are then scored by what is `stored`.

    `auto` takes what measurement favours for the segment's size: none below a few thousand rows, 4-bit product quantisation
    scanned whole (`pq`) up to some 200,000, the same behind inverted lists (`ivf_pq`) beyond. `candidates`: how many are scored
    exactly for each query unless it says so itself; null is by k. `lists`: inverted lists of `ivf_pq`, null by size; `links` of
    a node of `hnsw`. `gpu`: candidates come from a GPU where there is one that has room, out of uncompressed vectors: all of
    them, those of some lists where it would be `ivf_pq`, or along a graph where it would be `hnsw`.
    """

    kind: Literal["auto", "flat", "pq", "ivf_pq", "hnsw", "binary"] = "auto"
    candidates: int | None = None
    lists: int | None = None
    links: int = 32
    gpu: bool = False


@dataclass(frozen=True, slots=True)
class EmbedderSpec:
    """One version of a model that embeds queries. `encoding`: how it makes vectors of texts, beside its weights; filled in where
    the model is an encoder of the spec."""

    model: str
    version: int
    encoding: EncodingSpec | None = None


@dataclass(frozen=True, slots=True)
class VectorSpec:
    """A dense vector that every point has. `size`: dimensions. `stored`: in what precision it is kept and scored.

    `embedder`: what embeds the queries that these vectors are to be searched by, as the query tower that was trained with the
    item tower they come from. A graph then calls that version of it, and is refused where it wires something else.

    `multi`: a point has any number of them (late interaction, Khattab and Zaharia, "ColBERT", SIGIR 2020); they are never
    searched, only used to score candidates again.
    """

    size: int
    metric: Metric = "cosine"
    stored: Stored = "float32"
    multi: bool = False
    index: IndexSpec = field(default_factory=IndexSpec)
    embedder: EmbedderSpec | None = None


@dataclass(frozen=True, slots=True)
class SparseSpec:
    """A sparse vector that a point may have: 32-bit indices and weights, scored by dot product. `idf`: a query's weights are
    multiplied by the inverse document frequency of their index."""

    idf: bool = False


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """A field of the payload, which a point may leave out. `array`: it has any number of values, and a condition holds where
    it does for one of them.

    `text` is searched by words (BM25) and matched by all of a text's words; `stemmer`: the language whose endings are cut off,
    for example "english"; null keeps words whole.
    """

    type: FieldType
    array: bool = False
    stemmer: str | None = None


@dataclass(frozen=True, slots=True)
class QuotaSpec:
    """What may be stored; an upsert that would pass it is refused with RESOURCE_EXHAUSTED."""

    points_max: int = COLLECTION_POINTS_MAX
    tenant_points_max: int | None = None


@dataclass(frozen=True, slots=True)
class PublishedSpec:
    """Snapshots at the URL `store` (fsspec), whole ones of each partition that has moved, so often; the newest `keep` stay."""

    store: str
    every: str = "5m"
    keep: int = 2


@dataclass(frozen=True, slots=True)
class CollectionSpec:
    """One collection. `id`: `integer` is 64 bits, unsigned; `text` is 1 to 255 bytes of UTF-8.

    `tenant` names a keyword field: every call must then say which tenant it is for, and sees no other's points. `durability`:
    see LocalLogSpec. `growing_rows`: rows that are scanned before they are sealed into a segment with an index.
    `recall_sample`: the share of searches that are also answered exactly, off the path, to tell the recall.

    `kafka`: its log is a topic, keyed by id, that many processes may follow and write to; `snapshot`: from where those that come
    later begin. Without it the log is a folder of this process alone.
    """

    vectors: Mapping[str, VectorSpec]
    id: Literal["integer", "text"] = "integer"
    sparse: Mapping[str, SparseSpec] = field(default_factory=dict)
    fields: Mapping[str, FieldSpec] = field(default_factory=dict)
    tenant: str | None = None
    durability: Literal["fsync", "os"] = "fsync"
    quota: QuotaSpec = field(default_factory=QuotaSpec)
    growing_rows: int = SEGMENT_ROWS_GROWING
    recall_sample: float = 0.001
    kafka: KafkaLogSpec | None = None
    snapshot: PublishedSpec | None = None


@dataclass(frozen=True, slots=True)
class VectorStoreSpec:
    """`path`: the folder of all collections. Those declared here are made at the start where they are not there yet; clients
    may make, change and drop others unless `fixed`. `shard`: this process has one shard of each alone; a host of several
    processes sets it."""

    path: str
    collections: Mapping[str, CollectionSpec] = field(default_factory=dict)
    fixed: bool = False
    shard: ShardSpec | None = None

    @property
    def on_topics(self) -> set[str]:
        """Collections it declares whose logs are on Kafka."""
        return {name for name, each in self.collections.items() if each.kafka is not None}


Several = tuple[Value, ...] | str
"""Values, or the parameter that they are."""


@dataclass(frozen=True, slots=True)
class ConditionSpec:
    """A condition on one `field`: it is `match`, one of `any`, there and `none` of these, or within bounds; or, alone, `ids`: the
    point is one of them. A value that is `$name` comes with each request, as the input `name` of the search."""

    field: str | None = None
    match: Value | None = None
    any: Several | None = None
    none: Several | None = None
    gt: Value | None = None
    gte: Value | None = None
    lt: Value | None = None
    lte: Value | None = None
    ids: Several | None = None


@dataclass(frozen=True, slots=True)
class SearchFilterSpec:
    """All of `must` hold, one of `should` at least if there are any, and none of `must_not`."""

    must: tuple[ConditionSpec, ...] = ()
    should: tuple[ConditionSpec, ...] = ()
    must_not: tuple[ConditionSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class WordsSpec:
    """The words that a search looks for beside its vector, by BM25 in the text field `field`, and how the hits of both become one
    list: by `rank`, 1 / (`k` + rank) summed, or by scaled `scores` (see `RankFusion`, `ScoreFusion`), weighted; of each leg the
    best `depth` are fused, by k where it is left out."""

    field: str
    fusion: Literal["rank", "scores"] = "rank"
    k: float = 20.0
    weight: float = 1.0
    vector_weight: float = 1.0
    depth: int | None = None


@dataclass(frozen=True, slots=True)
class VectorSearchSpec:
    """A search served as a model, version 1: query vectors in, hits out; see engine/servables/vector_search.py.

    `collection`: its name, or an alias, which may be pointed elsewhere while it serves. `vector` may be left out where only
    one can be searched. `words`: words are searched beside it. `k`: hits of each query; `candidates`: see IndexSpec; `effort`:
    see SearchParams. `filter`: which points are searched, see engine/vectors/search_filter.py. `payload`: the fields that come
    with hits, and what stands where a point leaves one out or there are fewer hits; null is "", 0, false or NaN. `timeout_ms` is
    the deadline of a request that brings none.
    """

    collection: str
    k: int = 10
    vector: str | None = None
    candidates: int | None = None
    effort: float = 1.0
    payload: Mapping[str, Value | None] = field(default_factory=dict)
    filter: SearchFilterSpec | None = None
    words: WordsSpec | None = None
    timeout_ms: float | None = None
