"""Collections and points made at random, as Python values: what the core and the model of it are tried with."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Literal

import numpy as np

from engine.vectors.declaration import CollectionSpec, FieldSpec, IndexSpec, SparseSpec, VectorSpec
from tests.engine.vectors import plain_filter

OWNER: Final = "owner"
TENANTS: Final = ("one", "two", "drei")
Metric = Literal["cosine", "dot", "l2"]


def random_collection(source: random.Random, *, growing_rows: int, indexed: bool = False) -> CollectionSpec:
    """Any of what a collection may be. `indexed`: dense vectors have indexes from 256 rows on."""
    base = plain_filter.random_spec(source)
    fields = dict(source.sample(list(base.fields.items()), source.randrange(3, len(base.fields) + 1)))
    fields.setdefault("text_False", FieldSpec("text"))
    fields.setdefault("keyword_False", FieldSpec("keyword"))
    vectors = {f"v{at}": _random_vector(source, indexed=indexed) for at in range(source.choice([1, 1, 2]))}
    if source.random() < 0.5:
        stored = source.choice(["float32", "float16", "int8"])
        metric = source.choice(["cosine", "dot"])
        vectors["late"] = VectorSpec(source.choice([3, 8]), metric=metric, stored=stored, multi=True)  # type: ignore[arg-type]
    sparse = {"terms": SparseSpec(idf=source.random() < 0.5)} if source.random() < 0.7 else {}
    tenant = OWNER if source.random() < 0.35 else None
    if tenant:
        fields[OWNER] = FieldSpec("keyword")
    return replace(
        base, vectors=vectors, sparse=sparse, fields=fields, tenant=tenant, growing_rows=growing_rows
    )  # fmt: skip


def _random_vector(source: random.Random, *, indexed: bool) -> VectorSpec:
    metric = source.choice(["cosine", "dot", "l2"])
    stored = source.choice(["float32", "float32", "float16", "int8", "binary"])
    if metric == "l2" and stored == "binary":
        stored = "float32"
    kinds = ["auto", "flat", "binary"] if stored == "binary" else ["auto", "flat", "pq", "hnsw", "ivf_pq", "binary"]
    if indexed:
        kinds = ["binary"] if stored == "binary" else ["pq", "hnsw"]
    if metric == "l2" and "binary" in kinds:
        kinds.remove("binary")
    size = source.choice([16, 24]) if indexed else source.choice([2, 3, 8, 13, 24])
    return VectorSpec(
        size, metric=metric, stored=stored, index=IndexSpec(kind=source.choice(kinds))  # type: ignore[arg-type]
    )  # fmt: skip


def random_direction(size: int, source: np.random.Generator) -> np.ndarray:
    """float32 [size], of any length."""
    found: np.ndarray = source.standard_normal(size) * source.choice([0.5, 1.0, 2.0])
    return found.astype(np.float32)


def random_point(spec: CollectionSpec, id_: int | str, source: random.Random, numbers: np.random.Generator) -> Any:  # noqa: ANN401
    """As `points_of` takes it; what may be left out now and then is."""
    vectors: dict[str, Any] = {}
    for name, each in spec.vectors.items():
        if not each.multi:
            vectors[name] = random_direction(each.size, numbers)
        elif source.random() < 0.8:
            vectors[name] = [random_direction(each.size, numbers) for _ in range(source.randrange(4))]
    for name in spec.sparse:
        if source.random() < 0.8:
            vectors[name] = random_sparse(source)
    return {"id": id_, "vector": vectors, "payload": random_payload(spec, source)}


def random_sparse(source: random.Random) -> dict[str, list[Any]]:
    """Of few indices, so that points share some."""
    indices = sorted(source.sample(range(30), source.randrange(6)))
    return {"indices": indices, "values": [round(source.uniform(-0.5, 2), 3) for _ in indices]}


def random_payload(spec: CollectionSpec, source: random.Random) -> dict[str, Any]:
    """Of some fields, but for whose it is."""
    return {name: value for name, value in plain_filter.random_row(spec, source).items() if name != spec.tenant}


def as_kept(spec: CollectionSpec, payload: Mapping[str, Any]) -> dict[str, Any]:
    """The payload as hits carry it."""
    return {name: list(value) if spec.fields[name].array else value for name, value in payload.items()}
