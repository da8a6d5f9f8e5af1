"""Nothing is compiled, loaded or imported on a request's time: a fresh process opens a store, and its first searches and writes
find all that they need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from engine.vectors.collection import Collection
from engine.vectors.declaration import CollectionSpec, FieldSpec, IndexSpec, SparseSpec, VectorSpec
from engine.vectors.plain_points import points_of

SPEC = CollectionSpec(
    vectors={
        "v": VectorSpec(16, index=IndexSpec("pq")), "far": VectorSpec(8, metric="l2", stored="float16"),
        "small": VectorSpec(8, metric="dot", stored="int8"), "signs": VectorSpec(64, stored="binary"),
        "late": VectorSpec(4, multi=True),
    },
    sparse={"s": SparseSpec(idf=True)},
    fields={
        "n": FieldSpec("integer"), "title": FieldSpec("text"), "body": FieldSpec("text", stemmer="english"),
        "tags": FieldSpec("keyword", array=True), "where": FieldSpec("geo"), "price": FieldSpec("float"),
    },
    growing_rows=256,
)  # fmt: skip

FRESH = """
import json, sys
from pathlib import Path
import numpy as np
from engine import *
from tests.engine.vectors.test_warming import SPEC, rows

store = VectorStore()
store.apply(parse_spec("vectors: {path: store}", folder=Path(sys.argv[1])))
found = store.collection("c")
points = points_of(found.spec, rows(1_000, 5))

def known():
    return {f"{module}.{name}": len(each.overloads) for module, each_of in list(sys.modules.items()) if module.startswith("kernels")
            for name, each in vars(each_of).items() if hasattr(each, "overloads")}

before, modules = known(), set(sys.modules)
near = DenseLeg("v", np.ones(16, np.float32))
filters = [Range("n", lt=200), Match("tags", "a"), AnyOf("n", (1, 2)), HasWords("body", "running"), IsNull("price"),
           GeoRadius("where", (1.0, 2.0), 1e6), ValuesCount("tags", gte=1), HasId((1, 2, 3))]
asked = [
    Query((near,), 5), *(Query((near,), 5, filter=Filter.of(each, found.spec)) for each in filters),
    Query((near,), 5, payload=tuple(found.spec.fields), vectors=("v", "late")),
    *(Query((DenseLeg(name, np.ones(size, np.float32)),), 5) for name, size in (("far", 8), ("small", 8), ("signs", 64))),
    Query((TextLeg("title", "Straße"),), 5), Query((TextLeg("body", "running houses"),), 5),
    Query((SparseLeg("s", np.array([1, 3], np.uint32), np.ones(2, np.float32)),), 5),
    Query((near, TextLeg("body", "house")), 5), Query((near, TextLeg("body", "house")), 5, fusion=ScoreFusion((1.0, 2.0))),
    Query((near,), 5, group_by=GroupBy("n")), Query((near,), 5, diversity=Diversity("v")),
    Query((near,), 5, rerank=MaxSim("late", np.ones((2, 4), np.float32))), Query((RecommendLeg("v", (1,), (2,)),), 5),
    Query((near,), 5, params=SearchParams(exact=True)),
]
hits = [len(found.search(each).hits) for each in asked]
found.search_many(asked[:3])
found.upsert(points)
hits += [len(found.search(each).hits) for each in asked]
found.set_payload({"n": 7}, ids=[3])
found.delete([4])
found.scroll(limit=3)
found.count(asked[1].filter)
after = known()
new = [name for name in after if after[name] > before.get(name, 0)]
imported = [name for name in set(sys.modules) - modules if name.split(".")[0] in ("engine", "kernels", "faiss", "numba", "pyarrow")]
print(json.dumps({"compiled": new, "imported": imported, "hits": hits}))
store.close()
"""  # noqa: E501


def rows(first: int, count: int) -> list[dict[str, Any]]:
    """Points that have everything."""
    source = np.random.default_rng(first)
    names = {name: each.size for name, each in SPEC.vectors.items() if not each.multi}
    return [
        {
            "id": id_,
            "vector": {name: source.standard_normal(size) for name, size in names.items()}
            | {"late": source.standard_normal((3, 4)), "s": {"indices": [1, 2 + id_ % 5], "values": [1, 2]}},
            "payload": {
                "n": id_, "title": "Die Straße", "body": "a house is running", "tags": ["a", f"t{id_ % 3}"],
                "where": (1.0, 2.0), "price": 1.5 if id_ % 2 else None,
            },
        }
        for id_ in range(first, first + count)
    ]  # fmt: skip


def test_a_fresh_process_compiles_nothing_on_its_first_requests(tmp_path: Path) -> None:
    with Collection("c", tmp_path / "store" / "collections" / "c", SPEC, background=False) as collection:
        collection.upsert(points_of(SPEC, rows(0, 300)))
        assert collection.wait_indexed(60)
        assert {each.indexes["v"] for each in collection.info().parts} == {"pq"}
    run = subprocess.run(
        [sys.executable, "-c", FRESH, str(tmp_path)], capture_output=True, text=True, timeout=600, check=False
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["compiled"] == []
    assert found["imported"] == []
    assert all(found["hits"])
