"""What an index of a sealed segment is, and which kind a segment gets. Pure: knows neither FAISS nor files.

Measured on one core of an AMD EPYC with AVX-512 (FAISS 1.15.1), one query a call, recall@10 after exact float32 scores for the
candidates, microseconds of the index alone. 90,112 glosses of WordNet x 384, sentences as queries:

| | candidates 20 | 40 | 80 | 160 | 320 |
|---|---|---|---|---|---|
| `pq`, 96 x 4 bits | .872, 81 | .961, 88 | .992, 96 | .997, 118 | .9998, 141 |
| `ivf_pq`, 512 lists, probed 16 / 64 / 128 | | | .839, 38 / .947, 69 / .975, 104 | .842, 40 / .951, 81 / .979, 111 | |
| `binary` | | | | .964, 253 | 640: .995, 424 |

| rows that pass, 160 candidates | 0.1% | 1% | 10% | 50% | 90% | one topic, 8.5% |
|---|---|---|---|---|---|---|
| `pq` | 1.0, 137 | .9995, 194 | .9985, 224 | .9978, 167 | .997, 128 | .9945, 266 |

117,000 x 384 clustered, 160 candidates: plain fast scan 107, the same codes behind one inverted list 112. Plain fast scan takes
no filter, so there is only the latter (`pq`). A scan is linear in the rows. 1M x 128 clustered, 2,048 lists, 64 x 4 bits, 80
candidates: .995 at 57 with 8 probed (exact scores included); how many must be probed is the data's, so a build finds it out.
At 90,112 real rows lists do not pay at .99 yet; PQ_ROWS_MAX follows the estimate that they do from some 200,000 (not measured).
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

FLAT_ROWS_MAX: Final = 1_024
"""Scanned by kernels without any index. 512, 1,024, 2,048, 4,096, 8,192 x 384 float32 take 14, 27, 49, 92, 184 µs to scan; a
search of `pq` for 40 candidates takes 9, 10, 11, 13, 16."""
PQ_ROWS_MAX: Final = 200_000
LISTS_MAX: Final = 16_384


@dataclass(frozen=True, slots=True)
class IndexChoice:
    """What to build. `flat` is no index: the rows are scanned. `lists` and `probed` (None: found out by the
    build) are of `ivf_pq`, `links` of `hnsw`."""

    kind: IndexKind
    lists: int = 1
    probed: int | None = None
    links: int = 32


class VectorIndex(Protocol):
    """Finds candidates among the rows of one sealed segment. Built or loaded once, then never changed; any number of threads
    may search at once, each on its own core."""

    @property
    def kind(self) -> str:
        """Of the choice it was built by; on a GPU what it is there."""

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
    return IndexChoice(kind, lists=lists)


def lists_for(rows: int) -> int:
    """Inverted lists for so many rows: the power of two nearest to 2 sqrt(rows), so that finding lists costs as much as reading
    them does; bounded."""
    return int(min(LISTS_MAX, max(1, 2 ** round(np.log2(2 * max(rows, 1) ** 0.5)))))


ROWS_A_LIST_MIN: Final = 32
"""k-means cannot place lists with fewer rows each."""


def _rows_min(kind: str, size: int) -> int:
    if kind == "auto":
        # a scan of tiny vectors is quick for longer
        return max(FLAT_ROWS_MAX, min(4 * FLAT_ROWS_MAX, FLAT_ROWS_MAX * 64 // size))
    return {"pq": 256, "ivf_pq": 1_024, "hnsw": 256, "binary": 256}.get(kind, 0)
