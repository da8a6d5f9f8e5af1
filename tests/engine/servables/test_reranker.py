"""A reranker scores each passage of each query by what its model says of the pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from engine import BYTES, InvalidArgument, ModelLoadError, Tensor
from engine.encoders.declaration import RerankerSpec, TokenBatchingSpec
from engine.servables.reranker import Reranker, load_reranker
from engine.tensor import INT32
from tests.engine.encoders.small import TEXTS, cross_encoder, encoder, files, ids_of, table, texts_of
from tests.engine.servables.contract import ServableContract

BATCHING = TokenBatchingSpec(tokens_max=40)


def passages_of(rows: list[list[str]]) -> Tensor:
    """BYTES [n, m]."""
    flat = texts_of([each for row in rows for each in row]).array
    return Tensor(BYTES, flat.reshape(len(rows), -1))


def logit(query: str, passage: str) -> float:
    """By plain numpy."""
    words = table().astype(np.float64)
    return float(words[ids_of(query), 0].sum() - words[ids_of(passage)[1:], 1].sum())


def logits(queries: list[str], passages: list[list[str]]) -> npt.NDArray[np.float64]:
    """Of all pairs."""
    return np.array([[logit(query, each) for each in row] for query, row in zip(queries, passages, strict=True)])


class TestContract(ServableContract):
    """Three passages a query."""

    @pytest.fixture
    def servable(self, tmp_path: Path) -> Reranker:
        return load_reranker(RerankerSpec(*files(tmp_path, cross_encoder()), batching=BATCHING))

    def inputs(self, rows: int, seed: int) -> dict[str, Tensor]:
        rng = np.random.default_rng(seed)
        return {
            "query": texts_of(rng.choice(TEXTS, rows).tolist()),
            "passage": passages_of(rng.choice(TEXTS, (rows, 3)).tolist()),
            "count": Tensor(INT32, rng.integers(0, 4, rows).astype(np.int32)),
        }


@pytest.mark.parametrize("activation", ["none", "sigmoid"])
def test_scores_are_those_of_plain_numpy(activation: str, tmp_path: Path) -> None:
    queries, passages = ["the sea", "red fox"], [TEXTS[:4], TEXTS[2:]]
    servable = load_reranker(RerankerSpec(*files(tmp_path, cross_encoder()), activation=activation, batching=BATCHING))  # type: ignore[arg-type]
    wanted = logits(queries, passages)
    wanted = 1 / (1 + np.exp(-wanted)) if activation == "sigmoid" else wanted
    inputs = {"query": texts_of(queries), "passage": passages_of(passages)}
    np.testing.assert_allclose(servable.execute(inputs, ())["score"].array, wanted, atol=1e-5)
    counted = servable.execute({**inputs, "count": Tensor(INT32, np.array([2, 0], np.int32))}, ())["score"].array
    np.testing.assert_allclose(counted[0, :2], wanted[0, :2], atol=1e-5)
    assert np.isnan(counted[0, 2:]).all()
    assert np.isnan(counted[1]).all()


def test_prefixes_are_put_before_query_and_passage(tmp_path: Path) -> None:
    spec = RerankerSpec(*files(tmp_path, cross_encoder()), query_prefix="query : ", passage_prefix="a ")
    inputs = {"query": texts_of(["sea"]), "passage": passages_of([["cold"]])}
    found = load_reranker(spec).execute(inputs, ())["score"].array
    np.testing.assert_allclose(found, [[logit("query : sea", "a cold")]], atol=1e-5)


def test_a_long_pair_is_cut_where_it_is_longer_or_refused(tmp_path: Path) -> None:
    paths = files(tmp_path, cross_encoder())
    inputs = {"query": texts_of(["sea"]), "passage": passages_of([["the sea is deep bright cold"]])}
    cut = load_reranker(RerankerSpec(*paths, tokens_max=7)).execute(inputs, ())["score"].array
    np.testing.assert_allclose(cut, [[logit("sea", "the sea is")]], atol=1e-5)
    with pytest.raises(InvalidArgument, match="text 0 has 10 tokens, at most 8 are allowed"):
        load_reranker(RerankerSpec(*paths, tokens_max=8, truncate=False)).execute(inputs, ())


def test_passages_are_bounded(tmp_path: Path) -> None:
    servable = load_reranker(RerankerSpec(*files(tmp_path, cross_encoder())))
    inputs = {"query": texts_of(["sea"]), "passage": passages_of([["cold"] * 4_097])}
    with pytest.raises(InvalidArgument, match="4097 passages of one query, at most 4096 are allowed"):
        servable.execute(inputs, ())


def test_what_gives_no_logit_is_no_reranker(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="must be one FP32 logit a pair"):
        load_reranker(RerankerSpec(*files(tmp_path, encoder())))
