"""One leg of a query over one view: the best places and their scores.

A place is a part's position in the view << 32 | the row. Scores here are the higher the better: of l2 the negative square.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from engine.vectors.dense_search import DenseSearch
from engine.vectors.filter import Filter
from engine.vectors.lexical import text_statistics, weighted_terms
from engine.vectors.matching import chosen
from engine.vectors.query import DenseLeg, Leg, SearchParams, SparseLeg, TextLeg
from engine.vectors.sparse_index import sparse_idf
from engine.vectors.view import Bits, Longs, Singles, View
from kernels.ranking import offer_part, settle

_EVERY: Final = np.empty(0, np.uint8)
Best = tuple[Singles, Longs]


def best_of_leg(
    view: View, leg: Leg, k: int, filter_: Filter | None, params: SearchParams, told: list[str] | None = None
) -> Best:
    """At most k scores and places, best first. `leg` is checked, and no recommendation. `told`: gets how it was searched."""
    if isinstance(leg, DenseLeg):
        return DenseSearch.of(view, leg.vector).best(
            leg.query,
            k,
            candidates=params.candidates,
            filter_=filter_,
            exact=params.exact,
            effort=params.effort,
            told=told,
        )
    if isinstance(leg, TextLeg):
        return _by_words(view, leg, k, filter_, told)
    assert isinstance(leg, SparseLeg), leg
    return _by_indices(view, leg, k, filter_, told)


def _by_words(view: View, leg: TextLeg, k: int, filter_: Filter | None, told: list[str] | None) -> Best:
    terms, often = weighted_terms(leg.text, view.spec.fields[leg.field])
    parts = [each.part.text(leg.field) for each in view.parts]
    idf, mean_length = text_statistics(parts, terms)
    weights = (idf * often).astype(np.float32)
    if told is not None:
        told.append(f"{len(terms)} terms in {sum(each.texts for each in parts)} texts by BM25")
    return _over_parts(
        view, k, filter_, lambda at, bits: parts[at].best(terms, weights, mean_length, bits, k) if len(terms) else None
    )


def _by_indices(view: View, leg: SparseLeg, k: int, filter_: Filter | None, told: list[str] | None) -> Best:
    parts = [each.part.sparse(leg.name) for each in view.parts]
    weights = leg.values
    if view.spec.sparse[leg.name].idf:
        weights = (weights * sparse_idf(parts, leg.indices)).astype(np.float32)
    if told is not None:
        told.append(f"{len(leg.indices)} indices in {sum(each.vectors for each in parts)} sparse vectors")
    return _over_parts(view, k, filter_, lambda at, bits: parts[at].best(leg.indices, weights, bits, k))


def _over_parts(view: View, k: int, filter_: Filter | None, of_part: Callable[[int, Bits], Best | None]) -> Best:
    best_scores, best_places, size = np.empty(k, np.float32), np.empty(k, np.int64), 0
    for at, living in enumerate(view.parts):
        bits = chosen(living, filter_)
        found = of_part(at, _EVERY if bits is None else bits)
        if found is not None:
            scores, rows = found
            size = offer_part(scores, rows, at, _EVERY, best_scores, best_places, size)
    settle(best_scores, best_places, size)
    return best_scores[:size], best_places[:size]
