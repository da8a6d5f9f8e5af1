"""The list that is shown as a servable: of scored candidates those that are good, differ, and are not too many of a kind.

Inputs, n candidates of one request: "scores" FP32 [n]; where likeness counts "vectors" FP32 [n, w], of which all columns or some
are compared by cosine; for each cap of the spec by its name INT64 [n], what kind a candidate is, below 0 where that has no cap.
Output: "chosen" INT64 [m], the candidates in the order they are shown, m at most k. Maximal marginal relevance (Carbonell and
Goldstein, SIGIR 1998) with scores scaled to [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from engine.candidates.declaration import SlateSpec
from engine.candidates.slate_relations import CHOSEN, SCORES, VECTORS, tensors_of
from engine.errors import InvalidArgument, quoted
from engine.servables.servable import Tensors, Traits
from engine.servables.signature import Signature, declared_specs
from engine.tensor import INT64, Array, Tensor
from kernels.ranking import all_finite, diverse_within
from kernels.relevance import scaled


class Slate:
    """See the module. Any number of threads."""

    def __init__(self, spec: SlateSpec) -> None:
        inputs, outputs = tensors_of(spec)
        self._spec = spec
        self._caps = np.array(list(spec.caps.values()), np.int64)
        self.signature = Signature(declared_specs(inputs), declared_specs(outputs))
        told = ", ".join(f"{name}: {cap}" for name, cap in spec.caps.items()) or "none"
        self.traits = Traits(
            "vireo_slate", "a slate is of one request", (f"k: {spec.k}, relevance: {spec.relevance:g}, caps: {told}",)
        )

    def execute(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """See `Servable.execute`. Raises InvalidArgument where inputs differ in length, or a score or a vector is not finite."""
        scores = np.ascontiguousarray(inputs[SCORES].array)
        for name, each in inputs.items():
            if len(each.array) != len(scores):
                raise InvalidArgument(
                    f"input {quoted(name)}: {len(each.array)} candidates, {quoted(SCORES)} has {len(scores)}"
                )
        vectors = np.ascontiguousarray(inputs[VECTORS].array) if VECTORS in inputs else _no_columns(scores)
        first, size = self._spec.first, self._spec.size or 0
        for name, array, begin, columns in ((SCORES, scores[:, np.newaxis], 0, 1), (VECTORS, vectors, first, size)):
            if not all_finite(array, begin, columns):
                raise InvalidArgument(f"input {quoted(name)}: expected finite numbers")
        groups = np.empty((len(scores), len(self._caps)), np.int64)
        for at, name in enumerate(self._spec.caps):
            groups[:, at] = inputs[name].array
        chosen = np.empty(self._spec.k, np.int64)
        relevance = scaled(scores)
        count = diverse_within(vectors, first, size, relevance, self._spec.relevance, groups, self._caps, chosen)
        return {CHOSEN: Tensor(INT64, chosen[:count])}

    def close(self) -> None:
        """It holds nothing."""


def _no_columns(scores: Array) -> npt.NDArray[np.float32]:
    return np.empty((len(scores), 0), np.float32)
