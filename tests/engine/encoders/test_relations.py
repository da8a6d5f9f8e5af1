"""Encoders and rerankers of a spec: strict, called by name, and known to the collections whose vectors name them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine import (
    CollectionSpec,
    Engine,
    FailedPrecondition,
    Request,
    SpecError,
    Tensor,
    VectorSpec,
    parse_spec,
    points_of,
)
from engine.encoders.declaration import EncodingSpec
from engine.vectors.declaration import EmbedderSpec
from engine.vectors.manifest import check_reads_as
from engine.vectors.plain_spec import as_plain, collection_spec_of
from tests.engine.encoders.small import SIZE, cross_encoder, encoder, files, texts_of

SPEC = """
encoders:
  words:
    model: encoder/model.onnx
    tokenizer: encoder/tokenizer.json
    version: 3
    encoding: {prompts: {query: "query : "}}
rerankers:
  pairs: {model: pairs/model.onnx, tokenizer: pairs/tokenizer.json}
vectors:
  path: vectors
  collections:
    seas:
      vectors: {v: {size: 5, embedder: {model: words, version: 3}}}
      fields: {text: {type: text}}
searches:
  near: {collection: seas, k: 4, payload: {text: null}}
graphs:
  find:
    inputs: {text: {datatype: BYTES, shape: [-1]}}
    nodes:
      embed: {call: words, inputs: {text: text, prompt: {value: query}}}
      search: {call: near, inputs: {query: embed.embedding}}
      rerank: {call: pairs, inputs: {query: text, passage: search.text, count: search.count}}
    outputs: {ids: search.ids, score: rerank.score}
"""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("version: 3", "version: 0"), "spec:6: encoders.words.version: must be from 1 to 2147483648, got 0"),
        (("{prompts", "{pooling: max, prompts"), "expected one of 'mean', 'cls', 'last', 'none', got 'max'"),
        (("prompts: {", "default_prompt: passage, prompts: {"), "there is no prompt 'passage'"),
        (("prompts: {", 'prompts: {"": x, '), "the empty one stands for no prompt"),
        (("encoding: {", "encoding: {tokens_max: 0, "), "encoders.words.encoding.tokens_max: must be from 1"),
        (("pairs: {", "pairs: {batching: {tokens_max: 0}, "), "rerankers.pairs.batching.tokens_max: must be from 1"),
        (("pairs: {", "pairs: {pooling: mean, "), "unknown key 'pooling'"),
        (("pairs: {model", "words: {model"), "something else has that name already"),
        (("model: pairs/model.onnx", "model: ''"), "rerankers.pairs.model: must name a file"),
        (("words, version: 3", "words, version: 2"), "encoder 'words' is version 3, the vectors want version 2"),
        (
            ("words, version: 3", "words, version: 3, encoding: {pooling: cls}"),
            r"encodes otherwise: pooling is mean, not cls; prompts is \{'query': 'query : '\}, not \{\}",
        ),
        (("prompt: {value: query}", "prompts: {value: query}"), "prompts"),
    ],
)
def test_what_cannot_be_meant_is_refused(change: tuple[str, str], told: str, tmp_path: Path) -> None:
    assert change[0] in SPEC
    with pytest.raises(SpecError, match=told):
        parse_spec(SPEC.replace(*change), folder=tmp_path)


def test_a_collection_records_how_its_embedder_encodes(tmp_path: Path) -> None:
    store = parse_spec(SPEC, folder=tmp_path).vectors
    assert store is not None
    spec = store.collections["seas"]
    embedder = spec.vectors["v"].embedder
    assert embedder == EmbedderSpec("words", 3, EncodingSpec(prompts={"query": "query : "}))
    assert collection_spec_of(as_plain(spec)) == spec
    other = parse_spec(SPEC.replace('query : "', 'ask : "'), folder=tmp_path).vectors
    assert other is not None
    told = r"the stored vectors of embedder 'words' version 3 were made otherwise: prompts is .*ask.*, not .*query"
    with pytest.raises(FailedPrecondition, match=told):
        check_reads_as(spec, other.collections["seas"], empty=False)
    check_reads_as(spec, other.collections["seas"], empty=True)
    untold = CollectionSpec({"v": VectorSpec(SIZE, embedder=EmbedderSpec("words", 3))}, fields=spec.fields)
    check_reads_as(untold, spec, empty=False)
    with pytest.raises(FailedPrecondition, match="encoding is stored, and the spec says none"):
        check_reads_as(spec, untold, empty=False)


def test_a_graph_embeds_searches_and_reranks(tmp_path: Path) -> None:
    files(tmp_path / "encoder", encoder())
    files(tmp_path / "pairs", cross_encoder())
    texts = ["the deep sea", "a red fox runs", "bright cold wind"]
    engine = Engine(parse_spec(SPEC, folder=tmp_path))
    engine.start()
    try:
        assert engine.problems() == {}
        made = engine.infer(Request("words", {"text": texts_of(texts)})).outputs["embedding"].array
        rows = [
            {"id": at, "vector": {"v": vector.tolist()}, "payload": {"text": text}}
            for at, (text, vector) in enumerate(zip(texts, made, strict=True))
        ]
        seas = engine.vectors.collection("seas")
        seas.upsert(points_of(seas.spec, rows))
        found = engine.infer(Request("find", {"text": texts_of(["the cold sea"])})).outputs
        assert sorted(found["ids"].array[0, :3].tolist()) == [0, 1, 2]
        scores = found["score"].array[0]
        pairs = {"query": texts_of(["the cold sea"]), "passage": _passages(texts, found["ids"].array[0, :3])}
        direct = engine.infer(Request("pairs", pairs)).outputs["score"].array[0]
        np.testing.assert_allclose(scores[:3], direct, atol=1e-5)
        assert np.isnan(scores[3])
        assert [(each.version, each.state) for each in engine.index() if each.name == "words"] == [(3, "READY")]
    finally:
        engine.close()


def _passages(texts: list[str], order: np.ndarray) -> Tensor:
    tensor = texts_of([texts[at] for at in order])
    return Tensor(tensor.datatype, tensor.array[None])
