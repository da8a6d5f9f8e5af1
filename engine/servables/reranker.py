"""A cross-encoder as a servable: queries with their passages in, scores out, the higher the better the passage answers.

Inputs: "query" BYTES [-1], "passage" BYTES [-1, m], the passages of each query, both UTF-8; "count" INT32 [-1], optional,
how many of a row's passages there are, as a search tells it. Outputs: "score" FP32 [-1, m],
NaN from "count" on; "tokens" INT32 [-1], how many all pairs of a row took.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.encoders.declaration import RerankerSpec
from engine.encoders.pooling import Floats
from engine.encoders.relations import COUNT, PASSAGE, QUERY, SCORE, TOKENS, tensors_of_reranker
from engine.encoders.tokens import Text, Tokens
from engine.errors import InvalidArgument, ModelLoadError, quoted
from engine.limits import RERANK_PAIRS_MAX
from engine.servables.servable import Tensors, Traits
from engine.servables.signature import Signature, declared_specs
from engine.servables.token_model import TokenModel, Values, batching_told, load_token_model, text_of
from engine.tensor import FP32, INT32, Array, Tensor


class Reranker:
    """See the module. Any number of threads."""

    def __init__(self, model: TokenModel, spec: RerankerSpec) -> None:
        inputs, outputs = tensors_of_reranker()
        self.signature = Signature(declared_specs(inputs), declared_specs(outputs), batchable=True)
        self._model, self._spec = model, spec
        told = f"activation {spec.activation}, tokens_max {spec.tokens_max}"
        self.traits = Traits("vireo_reranker", batching_told(model), (told,))

    def execute(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """See `Servable.execute`. Raises InvalidArgument for text that is no UTF-8 or too long, and for too many passages."""
        passages = inputs[PASSAGE].array
        if passages.shape[1] > RERANK_PAIRS_MAX:
            raise InvalidArgument(
                f"input {quoted(PASSAGE)}: {passages.shape[1]} passages of one query, at most {RERANK_PAIRS_MAX} are allowed"
            )
        there = np.ones(passages.shape, bool)
        if COUNT in inputs:
            there = np.arange(passages.shape[1]) < inputs[COUNT].array[:, None]
        queries = [self._spec.query_prefix + text_of(QUERY, each) for each in inputs[QUERY].array]
        pairs = [
            (queries[row], self._spec.passage_prefix + text_of(PASSAGE, passages[row, column]))
            for row, column in np.argwhere(there)
        ]
        scores = np.full(passages.shape, np.nan, np.float32)
        tokens = np.zeros(passages.shape, np.int32)
        scores[there], tokens[there] = scored(self._model, pairs, self._spec)
        found = {SCORE: Tensor(FP32, scores), TOKENS: Tensor(INT32, tokens.sum(1, dtype=np.int32))}
        return {name: found[name] for name in outputs} if outputs else found

    def samples(self, rows: int) -> dict[str, Tensor]:
        """See `SampledServable`."""
        texts = self._model.sample_rows(rows)
        return {QUERY: Tensor.from_texts(texts), PASSAGE: Tensor.from_texts(texts[::-1], (rows, 1))}

    def close(self) -> None:
        """Drops the model."""
        self._model.close()


def scored(model: TokenModel, pairs: Sequence[Text], spec: RerankerSpec) -> tuple[Floats, Array]:
    """float32 [n], one of each pair, and int32 [n]: its tokens."""
    found, tokens = np.empty(len(pairs), np.float32), np.empty(len(pairs), np.int32)
    for places, logits, mask in model.run(pairs):
        found[places], tokens[places] = logits.reshape(len(places)), mask.sum(1)
    return np.reciprocal(np.float32(1) + np.exp(-found)) if spec.activation == "sigmoid" else found, tokens


def load_reranker(spec: RerankerSpec) -> Reranker:
    """Loaded. Paths of `spec` are absolute. Raises ModelLoadError, naming the file and the reason."""
    tokens = Tokens(Path(spec.tokenizer), spec.tokens_max, truncate=spec.truncate)

    def values(model: TokenModel) -> Values:
        first = model.samples()[0]
        _, sample, _ = next(model.run([(first, first)]))
        if sample.shape not in ((1,), (1, 1)) or sample.dtype != np.float32:
            raise ModelLoadError(
                f"{spec.model}: output {quoted(model.output)} must be one FP32 logit a pair, [n] or [n, 1], got {sample.dtype} "
                f"{list(sample.shape)} for one"
            )
        return lambda texts: scored(model, [(each, each) for each in texts], spec)[0]

    return Reranker(load_token_model(spec, tokens, values), spec)
