"""One random walk: whatever may be asked of a collection, of a real one and of a dictionary, which must agree after each step."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pytest

from engine.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from engine.vectors.collection import Collection
from engine.vectors.declaration import CollectionSpec, FieldSpec, IndexSpec, SparseSpec, VectorSpec
from engine.vectors.filter import Condition, Filter
from engine.vectors.points import points_of
from engine.vectors.query import DenseLeg, Query, RecommendLeg
from engine.vectors.snapshot import restore
from engine.vectors.values import PointId
from engine.vectors.view import View
from tests.engine.vectors import plain_filter
from tests.engine.vectors.core import MeddlingDisk
from tests.engine.vectors.plain_collection import PlainCollection, living_rows
from tests.engine.vectors.random_points import TENANTS, as_kept, random_collection, random_payload, random_point
from tests.engine.vectors.random_search import Recall, Searcher

FULL_MAX: Final = 3
IDS: Final = 200

Image = list[tuple[int, pa.RecordBatch]]


def image_of(view: View) -> Image:
    """All that a view shows, part by part."""
    return [(part.key, part.points(rows)) for part, rows in living_rows(view)]


class Walk:
    """`indexed`: many points, in segments that have indexes; else few, in many small segments."""

    def __init__(self, folder: Path, seed: int, *, indexed: bool = False) -> None:
        self.source = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.recall = Recall()
        self._indexed = indexed
        self._folder = folder
        self._made = 0
        self._disk = MeddlingDisk()
        growing = self.source.choice([300, 400]) if indexed else self.source.choice([4, 16, 50, 1000])
        spec = random_collection(self.source, growing_rows=growing, indexed=indexed)
        self.plain = PlainCollection(spec)
        self.collection = self._opened(self._new_folder(), spec)
        self._kept: list[tuple[View, Image]] = []
        self._largest: dict[str, np.ndarray] = {}
        for _ in range(12 if indexed else 0):
            self._upsert(200)
            self.index()

    def _new_folder(self) -> Path:
        self._made += 1
        return self._folder / f"{self._made}"

    def _opened(self, folder: Path, spec: CollectionSpec | None) -> Collection:
        return Collection("walk", folder, spec, disk=self._disk, background=False)

    @property
    def spec(self) -> CollectionSpec:
        """As the collection is declared now."""
        return self.plain.spec

    def close(self) -> None:
        """Ends."""
        self.collection.close()

    def step(self) -> str:
        """Does one thing; its name."""
        chosen = self.source.choices(list(_STEPS), [weight for weight, _ in _STEPS.values()])[0]
        _STEPS[chosen][1](self)
        while len(self.collection.indexer.fold.full) >= FULL_MAX:
            self.collection.indexer.step()
        tenants = TENANTS if self.spec.tenant else [None]
        assert self.collection.view.count == len(self.plain.points), chosen
        assert all(self.collection.count(tenant=each) == len(self.plain.ids(each)) for each in tenants), chosen
        return chosen

    # What steps choose.

    def _tenant(self) -> str | None:
        return self.source.choice(TENANTS) if self.spec.tenant else None

    def _id(self) -> PointId:
        if not self._indexed:
            return plain_filter.random_id(self.spec, self.source)
        number = self.source.randrange(1500)
        return number if self.spec.id == "integer" else f"id-{number}"

    def _ids(self, most: int) -> list[PointId]:
        return list(dict.fromkeys(self._id() for _ in range(self.source.randrange(1, most + 1))))

    def _condition(self) -> Condition:
        return plain_filter.random_condition(self.spec, self.source)

    def _batch(self) -> int:
        if self._indexed:
            return self.source.choice([1, 20, 200])
        return self.source.choice([1, 1, 3, 40])

    # Writes.

    def upsert(self) -> None:
        """Points, new ones and others' places."""
        self._upsert(self._batch())

    def _upsert(self, most: int) -> None:
        tenant = self._tenant()
        rows = [random_point(self.spec, each, self.source, self.numbers) for each in self._ids(most)]
        written = self.collection.upsert(points_of(self.spec, rows), tenant=tenant)
        assert written.count == len(rows)
        self.plain.upsert(rows, tenant)
        for row in rows:
            for name, vector in self.plain.points[tenant, row["id"]].vectors.items():
                flat = np.abs(vector.reshape(-1, self.spec.vectors[name].size))
                if len(flat):
                    self._largest[name] = np.maximum(self._largest.get(name, 0.0), flat.max(axis=0))

    def delete(self) -> None:
        """By ids, some of which are not there."""
        tenant, ids = self._tenant(), self._ids(8)
        assert self.collection.delete(ids, tenant=tenant).count == self.plain.delete(ids, tenant)

    def delete_matching(self) -> None:
        """By a filter, of some of the points."""
        tenant, condition = self._tenant(), self._condition()
        ids = self.plain.matching(condition, tenant)
        if len(ids) > 60 and (self._indexed or self.source.random() < 0.8):
            return
        written = self.collection.delete_matching(Filter.of(condition, self.spec), tenant=tenant)
        assert written.count == self.plain.delete(ids, tenant) == len(ids)

    def _chosen(self, tenant: str | None) -> tuple[dict[str, Any], list[PointId]]:
        """Ids or a filter, and whom they are about."""
        if self.source.random() < 0.5:
            ids = self._ids(6)
            return {"ids": ids}, [each for each in ids if (tenant, each) in self.plain.points]
        condition = self._condition()
        return {"filter_": Filter.of(condition, self.spec)}, self.plain.matching(condition, tenant)

    def set_payload(self) -> None:
        """Some fields, or all instead of those there are."""
        tenant = self._tenant()
        where, ids = self._chosen(tenant)
        replaced = self.source.random() < 0.3
        values = random_payload(self.spec, self.source)
        if self.source.random() < 0.3 and values:
            values[self.source.choice(list(values))] = None
        written = self.collection.set_payload(values, tenant=tenant, replace=replaced, **where)
        assert written.count == len(ids)
        self.plain.set_payload(ids, tenant, values, replace=replaced)

    def clear_payload(self) -> None:
        """Some fields, or all."""
        tenant = self._tenant()
        where, ids = self._chosen(tenant)
        fields = None if self.source.random() < 0.3 else self.source.sample(list(self.spec.fields), 2)
        assert self.collection.clear_payload(fields, tenant=tenant, **where).count == len(ids)
        self.plain.clear_payload(ids, tenant, list(self.spec.fields) if fields is None else fields)

    # Questions.

    def get(self) -> None:
        """Points, in the order asked."""
        tenant, ids = self._tenant(), self._ids(10)
        hits = self.collection.get(
            ids, payload=tuple(self.spec.fields), vectors=tuple(self.spec.vectors), tenant=tenant
        )
        assert [each.id for each in hits] == [each for each in ids if (tenant, each) in self.plain.points]
        self._check_points(hits, tenant)

    def _check_points(self, hits: Any, tenant: str | None) -> None:  # noqa: ANN401
        for hit in hits:
            point = self.plain.points[tenant, hit.id]
            assert hit.payload == as_kept(self.spec, point.payload), f"payload of {hit.id}"
            for name, spec in self.spec.vectors.items():
                given = point.vectors.get(name, np.empty((0, spec.size)))
                self._check_vector(name, spec, hit.vectors[name], given, point.rewrites)

    def _check_vector(self, name: str, spec: VectorSpec, found: np.ndarray, given: np.ndarray, rewrites: int) -> None:
        assert found.size == given.size, name
        if found.size == 0 or spec.stored == "binary" or name in self.plain_altered:
            assert found.size == 0 or name in self.plain_altered or ((found >= 0) == (given >= 0)).all(), name
            return
        lost = {"float32": 1e-6, "float16": 2e-3, "int8": 1e-6}[spec.stored] * (1 + np.abs(given))
        if spec.stored == "int8":
            # each merge with rows of a larger scale may round once more, and each rewrite
            lost = lost + 8 * 0.51 * self._largest[name] / 127
        assert (np.abs(found - given) <= lost * (1 + rewrites)).all(), f"{name}: {found}, given {given}"

    def scroll(self) -> None:
        """All pages."""
        tenant, limit = self._tenant(), self.source.choice([1, 7, 1000])
        condition = self._condition() if self.source.random() < 0.7 else None
        filter_ = None if condition is None else Filter.of(condition, self.spec)
        expected = sorted(self.plain.matching(condition, tenant))
        after = self._id() if self.source.random() < 0.3 else None
        expected = [each for each in expected if after is None or each > after]  # type: ignore[operator]
        found: list[PointId] = []
        for _ in range(6):
            hits, after = self.collection.scroll(filter_=filter_, limit=limit, after=after, tenant=tenant)
            found += [each.id for each in hits]
            if after is None:
                break
            assert after == found[-1]
        assert found == (expected if after is None else expected[: len(found)])
        assert after is None or len(found) == 6 * limit < len(expected)

    def count(self) -> None:
        """By a filter."""
        tenant, condition = self._tenant(), self._condition()
        found = self.collection.count(Filter.of(condition, self.spec), tenant=tenant)
        assert found == len(self.plain.matching(condition, tenant)), condition

    def search(self) -> None:
        """Of any kind."""
        condition = self._condition() if self.source.random() < (0.3 if self._indexed else 0.6) else None
        Searcher(self.collection, self.plain, self.source, self.numbers, self.recall).one(condition, self._tenant())

    def whole(self) -> None:
        """Everything, and earlier views once more."""
        for tenant in TENANTS if self.spec.tenant else [None]:
            hits, after = self.collection.scroll(
                limit=10_000, payload=tuple(self.spec.fields), vectors=tuple(self.spec.vectors), tenant=tenant
            )  # fmt: skip
            assert after is None
            assert [each.id for each in hits] == sorted(self.plain.ids(tenant))
            self._check_points(hits, tenant)
        for view, image in self._kept:
            again = image_of(view)
            assert [key for key, _ in again] == [key for key, _ in image]
            assert all(one.equals(other) for (_, one), (_, other) in zip(again, image, strict=True))
        self._kept = [*self._kept[-2:], (self.collection.view, image_of(self.collection.view))]

    def refuse(self) -> None:
        """What is wrong changes nothing."""
        tenant, offset = self._tenant(), self.collection.view.offset
        rows = [random_point(self.spec, each, self.source, self.numbers) for each in self._ids(5)]
        twice = points_of(self.spec, [*rows, rows[0]])
        name = next(each for each, of in self.spec.vectors.items() if not of.multi)
        long = np.ones(self.spec.vectors[name].size + 1, np.float32)
        other = None if self.spec.tenant else "other"
        absent: PointId = (1 << 64) - 1 if self.spec.id == "integer" else "nobody"
        wrong: list[tuple[type[Exception], Callable[[], object]]] = [
            (InvalidArgument, lambda: self.collection.upsert(twice, tenant=tenant)),
            (InvalidArgument, lambda: self.collection.upsert(points_of(self.spec, rows), tenant=other)),
            (InvalidArgument, lambda: self.collection.upsert(twice.drop_columns([f"vector.{name}"]), tenant=tenant)),
            (InvalidArgument, lambda: self.collection.delete([1.5], tenant=tenant)),  # type: ignore[list-item]
            (InvalidArgument, lambda: self.collection.delete(self._ids(3), tenant=other)),
            (InvalidArgument, lambda: self.collection.set_payload({"nothing": 1}, ids=[], tenant=tenant)),
            (InvalidArgument, lambda: self.collection.search(Query((DenseLeg(name, long),), 5, tenant=tenant))),
            (InvalidArgument, lambda: self.collection.search(Query((DenseLeg(name, long[1:]),), 0, tenant=tenant))),
            (NotFound, lambda: self.collection.search(Query((RecommendLeg(name, (absent,)),), 5, tenant=tenant))),
        ]
        error, call = self.source.choice(wrong)
        with pytest.raises(error):
            call()
        assert self.collection.view.offset == offset

    # Upkeep.

    def index(self) -> None:
        """A few steps of what goes on in the background; now and then with a write while a segment is made."""
        if self.source.random() < 0.5:
            self._disk.meddle = self.source.choice([self.upsert, self.delete, self.set_payload])
        for _ in range(self.source.choice([1, 1, 2, 20])):
            if not self.collection.indexer.step(idle=self.source.random() < 0.5):
                break
        self._disk.meddle = None

    def flush(self) -> None:
        """All is sealed."""
        self.collection.indexer.flush()

    def reopen(self) -> None:
        """As it was, or as its spec says."""
        self.collection.close()
        folder = self._folder / f"{self._made}"
        self.collection = self._opened(folder, self.spec if self.source.random() < 0.5 else None)
        assert self.collection.spec == self.spec

    def restore(self) -> None:
        """A snapshot has what there is; one goes on with it, or without."""
        target = self._folder / f"snapshot-{self._made}-{self.collection.view.offset}-{self.source.randrange(10**9)}"
        self.collection.snapshot(target)
        folder = self._new_folder()
        restore(target, folder, disk=self._disk)
        self.collection.close()
        self.collection = self._opened(folder, None)
        self.whole()

    def alter(self) -> None:
        """To another spec that reads the same points."""
        spec, source = self.spec, self.source
        vectors = dict(spec.vectors)
        name = source.choice(list(vectors))
        changes: list[Callable[[], CollectionSpec]] = [
            lambda: replace(spec, growing_rows=source.choice([300, 500]) if self._indexed else source.choice([8, 40])),
            lambda: replace(spec, vectors={**vectors, name: _other(vectors[name], source)}),
            lambda: replace(spec, fields={**spec.fields, f"more{self._made}": FieldSpec("keyword")}),
            lambda: replace(spec, fields=_without(spec, source)),
            lambda: replace(spec, sparse={**spec.sparse, "terms": SparseSpec(idf=source.random() < 0.5)}),
        ]
        self._made += 0
        wanted = source.choice(changes)()
        if (
            "terms" in wanted.sparse
            and "terms" not in spec.sparse
            and any("terms" in point.sparse for point in self.plain.points.values())
        ):
            return
        self.collection.alter(wanted)
        self.plain_altered |= {each for each, of in wanted.vectors.items() if of.stored != spec.vectors[each].stored}
        self.plain.spec = wanted
        for point in self.plain.points.values():
            point.payload = {each: value for each, value in point.payload.items() if each in wanted.fields}
        assert self.collection.spec == wanted
        self.whole()

    def alter_badly(self) -> None:
        """To what can't be read so."""
        if not self.plain.points:
            return
        name, each = next((name, each) for name, each in self.spec.vectors.items() if not each.multi)
        wrong = replace(self.spec, vectors={**self.spec.vectors, name: replace(each, size=each.size + 1)})
        with pytest.raises(FailedPrecondition):
            self.collection.alter(wrong)
        self.whole()

    def full(self) -> None:
        """Past the quota nothing comes in; what is there may be replaced."""
        most = max(1, len(self.plain.points))
        self.collection.alter(replace(self.spec, quota=replace(self.spec.quota, points_max=most)))
        tenant = self._tenant()
        fresh: PointId = (1 << 63) + 5 if self.spec.id == "integer" else "fresh"
        if len(self.plain.points) == most:
            rows = [random_point(self.spec, fresh, self.source, self.numbers)]
            with pytest.raises(ResourceExhausted):
                self.collection.upsert(points_of(self.spec, rows), tenant=tenant)
        self.collection.alter(self.spec)

    @property
    def plain_altered(self) -> set[str]:
        """Vectors whose precision was changed: they may have lost what a coarser one loses."""
        return self._altered

    @plain_altered.setter
    def plain_altered(self, names: set[str]) -> None:
        self._altered = names

    _altered: set[str] = set()


def _other(spec: VectorSpec, source: random.Random) -> VectorSpec:
    """Of another precision or index."""
    if source.random() < 0.5 or spec.stored == "binary" or spec.index.kind == "binary":
        return spec if spec.multi else replace(spec, index=IndexSpec(candidates=source.choice([None, 20])))
    return replace(spec, stored=source.choice(["float32", "float16", "int8"]))


def _without(spec: CollectionSpec, source: random.Random) -> dict[str, FieldSpec]:
    kept = ("text_False", "keyword_False", spec.tenant)
    gone = source.choice([None, *(each for each in spec.fields if each not in kept)])
    return {name: each for name, each in spec.fields.items() if name != gone}


_STEPS: Final[dict[str, tuple[float, Callable[[Walk], None]]]] = {
    "upsert": (35, Walk.upsert),
    "delete": (8, Walk.delete),
    "delete_matching": (2, Walk.delete_matching),
    "set_payload": (4, Walk.set_payload),
    "clear_payload": (2, Walk.clear_payload),
    "get": (5, Walk.get),
    "scroll": (4, Walk.scroll),
    "count": (8, Walk.count),
    "search": (20, Walk.search),
    "whole": (1, Walk.whole),
    "refuse": (2, Walk.refuse),
    "index": (8, Walk.index),
    "flush": (0.5, Walk.flush),
    "reopen": (0.7, Walk.reopen),
    "restore": (0.3, Walk.restore),
    "alter": (0.3, Walk.alter),
    "alter_badly": (0.1, Walk.alter_badly),
    "full": (0.2, Walk.full),
}
