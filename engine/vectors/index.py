"""What an index of a sealed segment is, and which kind a segment gets. Pure: knows neither FAISS nor files.

Measured single-threaded on one core of an AMD EPYC with AVX-512 (FAISS 1.15.1, clustered vectors, exact float32 scores for the
candidates). 117,000 x 384, PQ of 96 x 4 bits, one call, microseconds, without a filter and with a share of rows passing:

| candidates | plain fast scan | behind one list | 99% | 90% | 50% | 10% | 1% | 0.1% |
|---|---|---|---|---|---|---|---|---|
| 160 | 107 | 112 | 119 | 127 | 176 | 240 | 221 | 153 |

Plain fast scan takes no filter, and one inverted list over all rows costs 4% more: so there is only the latter (`pq`).
A whole scan is linear in the rows; inverted lists overtake it at some 200,000.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from engine.vectors.declaration import IndexSpec

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint8]
IndexKind = Literal["flat", "pq", "ivf_pq", "hnsw", "binary"]

FLAT_ROWS_MAX: Final = 4_096
"""Scanned by kernels without any index: 4,096 x 384 float32 take 0.1 ms, as long as an index search and its exact scores."""
PQ_ROWS_MAX: Final = 200_000
LISTS_MAX: Final = 16_384
PROBED_SHARE: Final = 1 / 32
PROBED_LISTS_MIN: Final = 8


@dataclass(frozen=True, slots=True)
class IndexChoice:
    """What to build. `flat` is no index: the rows are scanned. `lists` and `probed` are of `ivf_pq`, `links` of `hnsw`."""

    kind: IndexKind
    lists: int = 1
    probed: int = 1
    links: int = 32


class VectorIndex(Protocol):
    """Finds candidates among the rows of one sealed segment. Built or loaded once, then never changed; any number of threads
    may search at once, each on its own core."""

    @property
    def kind(self) -> IndexKind:
        """Of the choice it was built by."""

    @property
    def rows(self) -> int:
        """How many it holds, numbered from 0 in the order they were given."""

    @property
    def bytes_size(self) -> int:
        """Bytes of memory that its contents take, without what a library adds."""

    def search(
        self, queries: Floats, count: int, bits: Bits | None = None, *, effort: float = 1.0
    ) -> tuple[Floats, Rows]:
        """The nearly best `count` rows for each query, best first.

        `queries` float32 [q, d], C-contiguous. `bits` uint8 [ceil(rows / 8)]: only rows whose bit is 1 are found. `effort`: how
        many times the usual number of lists (`ivf_pq`) or nodes (`hnsw`) is looked at. Gives approximate scores float32
        [q, count], the higher the better whatever the metric, and rows int64 [q, count]; where fewer were found the last rows
        are -1.
        """

    def save(self, path: Path) -> None:
        """Write a file that the loader of this kind reads. It carries no checksum of its contents: whoever stores it has one."""


def choose_index(rows: int, size: int, spec: IndexSpec) -> IndexChoice:
    """The index of a segment of `rows` vectors of `size` dimensions.

    A declared kind is taken at its word, except that too few rows for it are scanned: `auto` below FLAT_ROWS_MAX, the others
    where they could not be trained or would be slower than a scan in any case.
    """
    assert rows >= 0
    assert size > 0
    if spec.kind == "flat" or rows < _rows_min(spec.kind, size):
        return IndexChoice("flat")
    kind: IndexKind = ("pq" if rows <= PQ_ROWS_MAX else "ivf_pq") if spec.kind == "auto" else spec.kind
    if kind != "ivf_pq":
        return IndexChoice(kind, links=spec.links)
    lists = min(spec.lists or lists_for(rows), rows // ROWS_A_LIST_MIN)
    return IndexChoice(kind, lists=lists, probed=probed_for(lists))


def lists_for(rows: int) -> int:
    """Inverted lists for so many rows: the power of two nearest to 2 sqrt(rows), so that finding lists costs as much as reading
    them does; bounded."""
    return int(min(LISTS_MAX, max(1, 2 ** round(np.log2(2 * max(rows, 1) ** 0.5)))))


def probed_for(lists: int) -> int:
    """How many lists a search reads: see the module's figures."""
    return min(lists, max(PROBED_LISTS_MIN, round(lists * PROBED_SHARE)))


ROWS_A_LIST_MIN: Final = 32
"""k-means cannot place lists with fewer rows each."""


def _rows_min(kind: str, size: int) -> int:
    if kind == "auto":
        # a scan of tiny vectors is quick for longer
        return max(FLAT_ROWS_MAX, min(4 * FLAT_ROWS_MAX, FLAT_ROWS_MAX * 64 // size))
    return {"pq": 256, "ivf_pq": 1_024, "hnsw": 256, "binary": 256}.get(kind, 0)
