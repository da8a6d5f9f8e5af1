"""Texts and their vectors searched by tantivy's BM25, by exact scores, and by reciprocal rank fusion of both, one query a call on
one thread. Runs in the environment `tantivy`.

The order: `texts` (JSON, a list) and `vectors` (.npy, float32, length 1), rows alike; `sorts`: of each sort of query its `query`,
`texts`, `vectors`; `answers` (JSON): the row that each query must find; `k`, `depth` of each leg that is fused, `rank_k` of
the fusion.
"""

import json
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Search = Callable[[int, int], list[int]]
"""The best rows, by a query's number and how many."""
MEMORY_BYTES = 50_000_000


class Words:
    """Words, not stemmed, ranked by BM25 with tantivy's k1 1.2 and b 0.75."""

    def __init__(self, texts: list[str]) -> None:
        self._tantivy: Any = import_module("tantivy")
        analyzer = self._tantivy.TextAnalyzerBuilder(self._tantivy.Tokenizer.simple())
        self._analyzer = analyzer.filter(self._tantivy.Filter.lowercase()).build()
        schema = self._tantivy.SchemaBuilder()
        schema.add_integer_field("row", stored=False, fast=True)
        schema.add_text_field("text", stored=False, tokenizer_name="default")
        self._schema = schema.build()
        index = self._tantivy.Index(self._schema)
        writer = index.writer(MEMORY_BYTES, 1)
        for row, text in enumerate(texts):
            writer.add_document(self._tantivy.Document(row=row, text=text))
        writer.commit()
        writer.wait_merging_threads()
        index.reload()
        self._searcher = index.searcher()

    def best(self, text: str, count: int) -> list[int]:
        """Every word counts as often as it is said: the query parser would drop repetitions, and so find less."""
        term = self._tantivy.Query.term_query
        words = [
            (self._tantivy.Occur.Should, term(self._schema, "text", each)) for each in self._analyzer.analyze(text)
        ]
        found = self._searcher.search(self._tantivy.Query.boolean_query(words), count).hits
        rows: list[int] = self._searcher.fast_field_values("row", [address for _, address in found])
        return rows


def fused(legs: list[list[int]], k: int, rank_k: float) -> list[int]:
    """Reciprocal rank fusion."""
    scores: dict[int, float] = {}
    for leg in legs:
        for rank, row in enumerate(leg, 1):
            scores[row] = scores.get(row, 0.0) + 1 / (rank_k + rank)
    return sorted(scores, key=lambda row: -scores[row])[:k]


def searches(order: dict[str, Any], words: Words, sort: dict[str, Any]) -> Iterator[tuple[str, Search]]:
    """Each way to search for one sort of queries."""
    vectors: npt.NDArray[np.float32] = np.load(order["vectors"])
    texts: list[str] = json.loads(Path(sort["texts"]).read_text())
    queries: npt.NDArray[np.float32] = np.load(sort["vectors"])

    def dense(at: int, count: int) -> list[int]:
        scores = vectors @ queries[at]
        best = np.argpartition(-scores, count)[:count]
        rows: list[int] = best[np.argsort(-scores[best])].tolist()
        return rows

    def lexical(at: int, count: int) -> list[int]:
        return words.best(texts[at], count)

    def both(at: int, count: int) -> list[int]:
        return fused([each(at, order["depth"]) for each in (dense, lexical)], count, order["rank_k"])

    yield "vectors", dense
    yield "words", lexical
    yield "RRF", both


def main() -> None:
    """Index, search, tell."""
    sys.path.append(str(Path(__file__).parent))  # this file is run by itself
    ranked: Any = import_module("vector_indexes").ranked

    order = json.load(sys.stdin)
    words = Words(json.loads(Path(order["texts"]).read_text()))
    answers = json.loads(Path(order["answers"]).read_text())
    told = []
    for sort in order["sorts"]:
        for by, search in searches(order, words, sort):
            figures = ranked(lambda at, search=search: search(at, order["k"]), answers)
            told.append({"query": sort["query"], "by": by, **figures})
    print(json.dumps(told))


if __name__ == "__main__":
    main()
