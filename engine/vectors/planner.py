"""How one part is searched for one query: which rows are scored exactly. Pure: facts in, a plan out.

Measured at 384 dimensions on one core of an AMD EPYC: a scattered row takes 0.075 µs to score, one of a whole scan 0.023; a
search of `pq` about 9 µs and 0.75 µs for 1,000 rows, with a bitset up to 2 µs for 1,000 rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SCATTERED_US: Final = 0.075
STREAMED_US: Final = 0.023
INDEX_US: Final = 9.0
INDEX_ROW_US: Final = 0.00075
SELECTED_ROW_US: Final = 0.0018
GPU_US: Final = 200.0
GPU_ROW_US: Final = 0.0003
"""Of an index on a GPU: launches and the way there and back, and a row of float16 read once. Estimates, not measured."""
FILTERED_MORE: Final = 2
"""Under a filter so many times the candidates: what it leaves may lie far from what the codebook tells apart."""
SELECT_SHARE: Final = 0.5
"""Below this share of rows that may be found the index is told which, above more are fetched and the others dropped."""
TRIED_MORE: Final = 1.1
"""Under a filter that most rows pass so many times as many are fetched as would do if it knew nothing of the query. Where it
does, too few of them pass, and the index is told which: of 1M x 64 with 86% passing 5,000 took 1.0 ms so, 0.4 fetched."""
TRIED_SPARE: Final = 16
_STREAMED_SHARE: Final = 0.3
"""From this share of rows on a scan reads memory in one go."""
_SPARE: Final = 4
"""More are fetched for rows that are dropped: they are not spread evenly."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`scan`: every row that may be found is scored. Else an index gives `candidates`, of those that may be found if it
    `selects`; where `tried` is above 0, it is first asked for so many of all, and that is enough if as many as `candidates` of
    them may be found. `why` in words; `scan_us` and `index_us`: what either was estimated to take, None where it was not."""

    scan: bool
    candidates: int = 0
    selects: bool = False
    why: str = ""
    scan_us: float | None = None
    index_us: float | None = None
    tried: int = 0

    def told(self, name: str, rows: int, survivors: int) -> str:
        """One line."""
        if self.scan:
            return f"{name}: all {survivors} of {rows} rows that may be found are scored; {self._reason()}"
        how = "of those that may be found" if self.selects else "of all, others are dropped"
        if self.tried:
            how += f", if too few of {self.tried} of all are"
        return (
            f"{name}: {self.candidates} candidates from the index {how} ({survivors} of {rows} rows), then scored; "
            f"{self._reason()}"
        )

    def _reason(self) -> str:
        if self.scan_us is None or self.index_us is None:
            return self.why
        return f"{self.why}: a scan takes some {self.scan_us:.0f} µs, the index {self.index_us:.0f}"


def default_candidates(k: int) -> int:
    """How many candidates give a recall of some .99: 80 for 10."""
    return max(80, min(8 * k, 3 * k + 1_000))


def plan(
    *, rows: int, tail: int, survivors: int, alive: int, total: int, k: int, candidates: int | None, size: int,
    filtered: bool, indexed: bool, on_gpu: bool = False,
) -> Plan:  # fmt: skip
    """`rows` that the index has and `tail` past them, which are scanned in any case; `survivors` of both that may be found, of
    `alive` ones; `total` living points of the view."""
    if not indexed:
        return _NO_INDEX
    if survivors <= k:
        return _FEW
    wanted = _wanted(k, candidates, alive / total, filtered=filtered)
    passing = survivors / (rows + tail)
    wide = size / 384
    scan_us = survivors * wide * (STREAMED_US if passing > _STREAMED_SHARE else SCATTERED_US)
    row_us = GPU_ROW_US if on_gpu else SELECTED_ROW_US if filtered else INDEX_ROW_US
    index_us = (GPU_US if on_gpu else INDEX_US) + wide * (
        rows * row_us + wanted * SCATTERED_US + tail * passing * STREAMED_US
    )
    if wanted >= passing * rows:
        return Plan(True, why="as many would be candidates", scan_us=scan_us, index_us=index_us)
    if scan_us <= index_us:
        return Plan(True, why="that is quicker", scan_us=scan_us, index_us=index_us)
    selects = filtered or passing < SELECT_SHARE
    fetched = wanted if selects or passing == 1 else int(wanted / passing + 0.999) + _SPARE
    tries = filtered and not on_gpu and passing >= SELECT_SHARE  # a GPU reads no row that may not be found
    tried = int(TRIED_MORE * wanted / passing) + TRIED_SPARE if tries else 0
    return Plan(False, min(rows, fetched), selects, "that is quicker", scan_us, index_us, tried if tried < rows else 0)


def _wanted(k: int, candidates: int | None, share: float, *, filtered: bool) -> int:
    """How many living candidates a part of this share of all points is to give: one that is smaller has fewer rows that only
    look near."""
    wanted = candidates or default_candidates(k)
    if candidates is None and filtered:
        wanted *= FILTERED_MORE
    return max(2 * k, k + int((wanted - k) * share**0.5 + 0.999)) if share < 1 else max(wanted, k)


_NO_INDEX: Final = Plan(True, why="no index is there or wanted")
_FEW: Final = Plan(True, why="no more are asked for")
