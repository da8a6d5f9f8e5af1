"""An index and the embedder of its queries change together, in one step, under load: no request fails, none sees one of each."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper

from engine import (
    CollectionSpec,
    Engine,
    FailedPrecondition,
    NotFound,
    Request,
    Tensor,
    VectorSpec,
    parse_spec,
    points_of,
)
from engine.servables.servable import Tensors
from engine.servables.vector_search import VectorSearch
from engine.vectors.declaration import EmbedderSpec
from engine.vectors.relations import check_alter, problems_of
from tests.engine.onnx_models import FLOAT, graph, number, write
from tests.fakes import FP32

APPLICATION = """
repository: {path: models, control: explicit, load: ["*"]}
models: {tower: {versions: all}}
vectors: {path: store}
searches: {find: {collection: items, k: 1}}
gathers: {vectors: {sources: [{collection: items, vector: v, size: 4}]}}
functions:
  flat:
    call: tests.engine.graph.test_refresh:flat
    batchable: true
    inputs: {ids: {datatype: UINT64, shape: [-1, 1]}}
    outputs:
      key: {datatype: UINT64, shape: [-1]}
graphs:
  recommend:
    inputs: {x: {datatype: FP32, shape: [-1, 2]}}
    nodes:
      embed: {call: tower, inputs: {x: x}}
      found: {call: find, inputs: {query: embed.e}}
      flat: {call: flat, inputs: {ids: found.ids}}
      vectors: {call: vectors, inputs: {key: flat.key}}
    outputs: {ids: found.ids, version: embed.version, gathered: vectors.found}
"""
BASE = np.array([[1, 0, 0.5, 0], [0, 1, 0, 0.5]], np.float32)
SIGN = {1: 1.0, 2: -1.0, 3: 1.0}
"""By version: a query of version 1 finds the farthest among the vectors of version 2."""


def flat(*, ids: NDArray[np.uint64]) -> dict[str, NDArray[np.uint64]]:
    return {"key": ids[:, 0]}


def tower(version: int) -> ModelProto:
    """x [batch, 2] to e [batch, 4] and its version."""
    return graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["e"]),
            helper.make_node("Mul", ["x", "nought"], ["noughts"]),
            helper.make_node("Add", ["noughts", "number"], ["version"]),
        ],
        {"x": (FLOAT, ["batch", 2])},
        {"e": (FLOAT, ["batch", 4]), "version": (FLOAT, ["batch", 2])},
        [
            numpy_helper.from_array(BASE * np.float32(SIGN[version]), "w"),
            number("nought", 0),
            number("number", version),
        ],
    )


def items(version: int, model: str = "tower") -> CollectionSpec:
    return CollectionSpec({"v": VectorSpec(4, embedder=EmbedderSpec(model, version))}, durability="os")


def fill(engine: Engine, version: int) -> None:
    """Collection items-N: ids N000 and N001, for x of (1, 0) and (0, 1)."""
    spec = items(version)
    rows = [{"id": version * 1000 + at, "vector": (each * SIGN[version]).tolist()} for at, each in enumerate(BASE)]
    engine.vectors.create(f"items-{version}", spec).upsert(points_of(spec, rows))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """With versions 1 and 2 of the tower and of the items; it serves the first."""
    for version in (1, 2):
        write(tmp_path / "models" / "tower" / str(version), tower(version))
    found = Engine(parse_spec(APPLICATION, folder=tmp_path))
    found.start()
    for version in (1, 2):
        fill(found, version)
    found.vectors.set_alias("items", "items-1")
    found.apply(parse_spec(APPLICATION, folder=tmp_path))
    assert found.ready, found.problems()
    yield found
    found.close()


def asked(engine: Engine, at: int) -> tuple[int, int]:
    """The id that was found for unit vector `at`, and the version of the tower; the gather must know that id, which the other
    collection has not."""
    outputs = engine.infer(
        Request("recommend", inputs={"x": Tensor(FP32, np.eye(2, dtype=np.float32)[at : at + 1])})
    ).outputs
    assert outputs["gathered"].array.all(), "search and gather were of different collections"
    return int(outputs["ids"].array[0, 0]), int(outputs["version"].array[0, 0])


def test_a_graph_calls_the_version_that_the_index_is_for_not_the_newest(engine: Engine) -> None:
    assert asked(engine, 0) == (1000, 1)
    assert asked(engine, 1) == (1001, 1)
    engine.vectors.set_alias("items", "items-2")
    assert asked(engine, 0) == (2000, 2)
    assert asked(engine, 1) == (2001, 2)


def test_a_move_tries_one_row_and_expects_of_more_what_was_learnt(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    execute = VectorSearch.execute

    def spy(self: VectorSearch, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        tried.append(len(inputs["query"].array))
        return execute(self, inputs, outputs)

    monkeypatch.setattr(VectorSearch, "execute", spy)
    before = engine.describe("find", None).expected_us
    assert len(before) > 1
    engine.vectors.set_alias("items", "items-2")
    assert tried, "it was not loaded anew"
    assert set(tried) == {1}, "who is served beside waits for all that is tried"
    assert engine.describe("find", None).expected_us.keys() == before.keys()


def test_index_and_embedder_change_together_and_no_request_fails(engine: Engine) -> None:
    stop, seen = threading.Event(), set()
    wrong: list[object] = []

    def ask(at: int) -> None:
        try:
            while not stop.is_set():
                id_, version = asked(engine, at)
                seen.add(version)
                if id_ != version * 1000 + at:
                    wrong.append((at, id_, version))
        except BaseException as error:
            wrong.append(error)

    callers = [threading.Thread(target=ask, args=(each % 2,)) for each in range(4)]
    for each in callers:
        each.start()
    for turn in range(12):
        version = 2 - turn % 2
        engine.vectors.set_alias("items", f"items-{version}")
        assert asked(engine, 0) == (1000 * version, version), "what follows a move sees it"
    stop.set()
    for each in callers:
        each.join()
    assert not wrong, wrong[:3]
    assert seen == {1, 2}


def test_what_was_pointed_at_may_be_dropped_at_once(engine: Engine) -> None:
    engine.vectors.set_alias("items", "items-2")
    engine.vectors.drop("items-1")
    assert asked(engine, 0) == (2000, 2)


def test_an_alias_is_not_moved_to_what_a_graph_could_not_search(engine: Engine, tmp_path: Path) -> None:
    fill(engine, 3)
    with pytest.raises(
        FailedPrecondition,
        match=r"alias 'items': graph 'recommend', node 'found', input 'query': model 'tower' has no version 3 ready; ready: 1, 2",
    ):
        engine.vectors.set_alias("items", "items-3")
    for name, spec, told in (
        ("other", items(1, "owl"), r"takes what 'owl' version 1 gives, and node 'embed' calls 'tower'"),
        ("wide", CollectionSpec({"v": VectorSpec(5)}), r"expected FP32 \[-1, 5\]"),
        ("two", CollectionSpec({"v": VectorSpec(4), "w": VectorSpec(4)}), r"vector: must be given"),
    ):
        engine.vectors.create(name, spec)
        with pytest.raises(FailedPrecondition, match=told):
            engine.vectors.set_alias("items", name)
    assert asked(engine, 0) == (1000, 1)
    write(tmp_path / "models" / "tower" / "3", tower(3))
    engine.load("tower")
    assert asked(engine, 0) == (1000, 1), "a new version alone changes nothing"
    engine.vectors.set_alias("items", "items-3")
    assert asked(engine, 1) == (3001, 3)
    with pytest.raises(NotFound):
        engine.vectors.set_alias("items", "nothing")


TWO = APPLICATION.replace("k: 1}}", "k: 1}, more: {collection: others, k: 1}}")
TWO = TWO.replace(
    "    outputs: {", "      again: {call: more, inputs: {query: embed.e}}\n    outputs: {others: again.ids, "
)


def test_searches_for_one_embedder_move_together(engine: Engine, tmp_path: Path) -> None:
    """A graph with a node that embeds for two searches never has one search of each kind, nor is it refused as a whole."""
    engine.vectors.set_alias("others", "items-1")
    engine.apply(parse_spec(TWO, folder=tmp_path))
    assert engine.ready, engine.problems()
    stop, wrong = threading.Event(), list[object]()

    def ask() -> None:
        request = Request("recommend", inputs={"x": Tensor(FP32, np.eye(2, dtype=np.float32)[:1])})
        try:
            while not stop.is_set():
                outputs = engine.infer(request).outputs
                found = [int(outputs[each].array[0, 0]) for each in ("ids", "others", "version")]
                if found not in ([1000, 1000, 1], [2000, 2000, 2]):
                    wrong.append(found)
        except BaseException as error:
            wrong.append(error)

    callers = [threading.Thread(target=ask) for _ in range(2)]
    for each in callers:
        each.start()
    for version in (2, 1, 2):
        engine.vectors.change_aliases(dict.fromkeys(("items", "others"), f"items-{version}"))
    with pytest.raises(
        FailedPrecondition, match=r"takes what version . of node 'embed' gives, and others what version . does"
    ):
        engine.vectors.set_alias("items", "items-1")
    stop.set()
    for each in callers:
        each.join()
    assert not wrong, wrong[:3]
    assert asked(engine, 1) == (2001, 2)


@pytest.mark.parametrize(
    ("node", "told"),
    [
        (
            "{call: tower, version: 2, inputs: {x: x}}",
            "and node 'embed' calls 'tower' version 2",
        ),
        ("{call: tower, inputs: {x: x}, on_error: {call: spare}}", "and node 'embed' has 'spare' for on_error"),
    ],
)
def test_a_graph_that_may_embed_otherwise_is_refused(node: str, told: str, engine: Engine, tmp_path: Path) -> None:
    write(tmp_path / "models" / "spare" / "1", tower(2))
    text = APPLICATION.replace("recommend:", "wrong:").replace("{call: tower, inputs: {x: x}}", node)
    engine.apply(parse_spec(text, folder=tmp_path))
    assert told in engine.problems()["wrong"]


def test_an_embedder_is_checked_and_stays() -> None:
    unknown = CollectionSpec({"v": VectorSpec(4)})
    check_alter(unknown, items(1), None, empty=False)
    check_alter(items(1), items(2), None, empty=True)
    for other in (items(2), items(1, "owl"), unknown):
        with pytest.raises(FailedPrecondition, match="vector 'v': embedder is stored as"):
            check_alter(items(1), other, None, empty=False)
    assert list(problems_of(items(0, ""))) == [
        ("vectors.v.embedder.model", "must name a model"),
        ("vectors.v.embedder.version", "must be from 1 to inf, got 0"),
    ]
    multi = CollectionSpec({"v": VectorSpec(4), "m": VectorSpec(4, multi=True, embedder=EmbedderSpec("tower", 1))})
    assert [key for key, _ in problems_of(multi)] == ["vectors.m.embedder.model"]
