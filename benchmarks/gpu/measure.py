"""The parts of the benchmark: each gives rows for its table and judgements. Wants a GPU."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks.gpu.callers import rates
from benchmarks.gpu.data import Corpus, bits_keeping, corpus, nearest_in_float64, recall
from benchmarks.gpu.timing import copy_bytes_a_ms, milliseconds
from benchmarks.report import Judgement
from benchmarks.table import Cell
from kernels.gpu.knn import FEW_QUERIES, MANY_QUERIES, Tuning, nearest
from kernels.gpu.rows import DeviceRows

K = 10
SIZE = 384
MANY = 64
INT8_CANDIDATES = 32
TUNINGS = {
    1: (FEW_QUERIES, Tuning(rows=128, step=128, stages=3, programs=2), Tuning(rows=256, step=64, warps=8, programs=2)),
    MANY: (
        MANY_QUERIES,
        Tuning(rows=128, step=128, warps=8, programs=1),
        Tuning(rows=256, step=64, warps=8, programs=1),
    ),
}
"""Tried on a fifth of the rows; the quickest is measured."""


@dataclass(slots=True)
class Measured:
    """What has been found so far. `read_ms` of float16 rows: their bytes over the measured copy bandwidth."""

    bytes_a_ms: float
    corpus: Corpus
    repeats: int
    rows: list[list[Cell]] = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    took: dict[str, float] = field(default_factory=dict)
    tunings: dict[int, Tuning] = field(default_factory=dict)

    def read_ms(self, rows: DeviceRows) -> float:
        """The floor: every byte of it once."""
        return rows.bytes_size / self.bytes_a_ms

    def timed(self, name: str, floor: float, work: Callable[[], Any], found: float | None = None) -> float:
        """Times `work`, for the table under `name`."""
        took = self.took[name] = milliseconds(work, self.repeats)
        self.rows.append([name, took, floor, took / floor, found])
        return took

    def judge(self, promise: str, kept: bool, said: str) -> None:
        """A bar of the issue."""
        self.judgements.append(Judgement(promise, kept, said))


def measure(rows: int, repeats: int, seed: int) -> Measured:
    """All of it."""
    state = Measured(copy_bytes_a_ms(), corpus(rows, SIZE, MANY, seed), repeats)
    _tune(state)
    truth = nearest_in_float64(state.corpus.halves.data, state.corpus.queries, K)
    _exact(state, truth)
    _filtered(state)
    _quantised(state, truth)
    _callers(state)
    return state


def _tune(state: Measured) -> None:
    halves: Any = state.corpus.halves
    some = DeviceRows(halves.data[: len(halves) // 5], "float16", "dot", SIZE)
    for many, tunings in TUNINGS.items():
        asked = state.corpus.queries[:many]
        taken = [milliseconds(partial(nearest, some, asked, K, tuning=each), 5) for each in tunings]
        state.tunings[many] = tunings[taken.index(min(taken))]
        told = ", ".join(f"{each}: {took:.3f} ms" for each, took in zip(tunings, taken, strict=True))
        state.notes.append(f"{many} queries, a fifth of the rows: {told}")


def _exact(state: Measured, truth: Any) -> None:  # noqa: ANN401
    halves, floor = state.corpus.halves, state.read_ms(state.corpus.halves)
    for many, bar in ((1, 1.3), (MANY, 1.6)):
        asked, tuning = state.corpus.queries[:many], state.tunings[many]
        found = recall(nearest(halves, asked, K, tuning=tuning)[1], truth[:many])
        took = state.timed(f"float16, {many}", floor, partial(nearest, halves, asked, K, tuning=tuning), found)
        rival = state.timed(f"torch matmul + topk, {many}", floor, partial(_rival, halves.data, asked.half()))
        state.judge(f"{many} queries take at most {bar} times a read", took <= bar * floor, f"{took / floor:.2f}")
        state.judge(f"{many} queries: recall 1.0 against float64", found == 1, f"{found:.4f}")
        state.judge(f"{many} queries: twice as quick as torch", rival >= 2 * took, f"{rival / took:.1f} times")
    for k in (100, 1024):
        state.timed(f"float16, {MANY}, k={k}", floor, partial(nearest, halves, state.corpus.queries, k))


def _rival(data: Any, queries: Any) -> Any:  # noqa: ANN401
    return (queries @ data.T).topk(K, dim=1)


def _filtered(state: Measured) -> None:
    halves, floor = state.corpus.halves, state.read_ms(state.corpus.halves)
    for many in (1, MANY):
        asked, tuning, whole = state.corpus.queries[:many], state.tunings[many], state.took[f"float16, {many}"]
        for share in (0.01, 0.1, 0.5):
            bits = bits_keeping(share, len(halves))
            found = nearest(halves, asked, K, bits=bits, tuning=tuning)[1]
            right = recall(found, nearest_in_float64(halves.data, asked, K, bits))
            name = f"float16, {many}, {share:.0%} pass"
            took = state.timed(name, floor * share, partial(nearest, halves, asked, K, bits=bits, tuning=tuning), right)
            bar = whole / 3 if share == 0.01 else whole
            state.judge(
                f"{name}: at most {bar:.3f} ms, and exact", took <= bar and right == 1, f"{took:.3f}, {right:.4f}"
            )


def _quantised(state: Measured, truth: Any) -> None:  # noqa: ANN401
    codes, halves = state.corpus.codes, state.corpus.halves
    for many in (1, MANY):
        asked, tuning, whole = state.corpus.queries[:many], state.tunings[many], state.took[f"float16, {many}"]

        work = partial(nearest, codes, asked, K, wanted=INT8_CANDIDATES, refine=halves, tuning=tuning)
        found = recall(work()[1], truth[:many])
        took = state.timed(f"int8 and refine, {many}", state.read_ms(codes), work, found)
        said = f"{whole / took:.2f} times at {found:.4f}"
        state.judge(f"int8, {many}: 1.7 times float16's rate at .99", whole >= 1.7 * took and found >= 0.99, said)


def _callers(state: Measured) -> None:
    together, apart = rates(state.corpus.halves, state.corpus.queries, K, state.repeats)
    state.notes.append(
        f"queries a second: {together:,.0f} in batches of {MANY}, {apart:,.0f} of {MANY} callers of one each"
    )
    state.judge(
        f"{MANY} callers of one query reach 0.8 of the batch's rate", apart >= 0.8 * together, f"{apart / together:.2f}"
    )
