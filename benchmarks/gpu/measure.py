"""What the benchmark's parts share: rows on a GPU, how the scan is laid out there, and tables of times beside their floors."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import torch

from benchmarks.features import part
from benchmarks.gpu.data import Corpus, corpus, nearest_in_float64, recall
from benchmarks.gpu.timing import bytes_a_ms, milliseconds
from benchmarks.table import Cell, Table
from kernels.gpu.layout import Tuning
from kernels.gpu.replay import Replayed
from kernels.gpu.rows import DeviceRows

K = 10
COLUMNS = ["what, queries", "ms", "floor, ms", "times floor", "recall"]


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured. `few`, `more`: layouts tried for one query and for
    `many` on a fifth of the rows, None what is chosen without; the quickest is measured."""

    rows: int
    size: int = 384
    many: int = 64
    large_k: tuple[int, ...] = (100, 1_024)
    repeats: int = 20
    calls: int = 200
    copied_bytes: int = 1 << 31
    device: str = "cuda"
    few: tuple[Tuning | None, ...] = (
        None,
        Tuning(64, 128, stages=2, programs=2, held=True),
        Tuning(128, 128, 8, stages=2, programs=1, held=True),
    )
    more: tuple[Tuning | None, ...] = (
        None,
        Tuning(64, 128, 8, stages=3, programs=1, held=True),
        Tuning(128, 64, 8, stages=3, programs=1),
    )


SCALES = {False: Scale(10_000_000), True: Scale(1_000_000, repeats=5, calls=50)}
"""By whether it is to be quick."""


@dataclass(slots=True)
class Measured:
    """One GPU with rows. `bytes_a_ms`: what a copy within its memory moves, read and written."""

    scale: Scale
    corpus: Corpus
    bytes_a_ms: float
    tunings: dict[int, Tuning | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _took: dict[int, float] = field(default_factory=dict)
    _searches: dict[Tuning | None, Replayed] = field(default_factory=dict)

    def told(self) -> list[str]:
        """What is to be noted of it; for the first part that asks."""
        notes, self.notes = self.notes, []
        return notes

    def read_ms(self, rows: DeviceRows) -> float:
        """The floor: every byte of them once, at the copy's bandwidth."""
        return rows.bytes_size / self.bytes_a_ms

    def queries(self, many: int) -> Any:  # noqa: ANN401
        """The first so many."""
        return self.corpus.queries[:many]

    def truth(self, many: int, bits: Any = None) -> Any:  # noqa: ANN401
        """The nearest of float64."""
        return nearest_in_float64(self.corpus.halves.data, self.queries(many), K, bits)

    def exact(self, many: int, bits: Any = None) -> Callable[[], Any]:  # noqa: ANN401
        """The search of float16 rows."""
        return partial(self.searches(many).search, self.queries(many), K, bits=bits)

    def searches(self, many: int) -> Replayed:
        """Of float16 rows, laid out for so many queries."""
        tuning = self.tunings.get(many)
        if tuning not in self._searches:
            self._searches[tuning] = Replayed(self.corpus.halves, tuning=tuning)
        return self._searches[tuning]

    def exact_ms(self, many: int) -> float:
        """How long it takes; measured once."""
        if many not in self._took:
            self._took[many] = milliseconds(self.exact(many), self.scale.repeats)
        return self._took[many]


class Times:
    """A part's table, told line by line as it is measured."""

    def __init__(self, measured: Measured) -> None:
        self._measured = measured
        self._rows: list[list[Cell]] = []

    def add(self, name: str, took: float, floor: float, found: float | None = None) -> None:
        """A line: milliseconds, and the share of the truly nearest that was found."""
        self._rows.append([name, took, floor, took / floor, found])
        told = "" if found is None else f", recall {found:.4f}"
        say(f"{name}: {took:.3f} ms, {took / floor:.2f} times the floor of {floor:.3f}{told}")

    def timed(self, name: str, work: Callable[[], Any], floor: float, found: float | None = None) -> float:
        """Measures `work` and adds it."""
        took = milliseconds(work, self._measured.scale.repeats)
        self.add(name, took, floor, found)
        return took

    def table(self, title: str, about: str) -> Table:
        """All lines."""
        return Table(title, about, COLUMNS, self._rows)

    def data(self) -> list[dict[str, Cell]]:
        """All lines, for the JSON."""
        return [dict(zip(COLUMNS, each, strict=True)) for each in self._rows]


@cache
def measured(quick: bool, seed: int) -> Measured:
    """Made for the first part that asks."""
    scale, began = SCALES[quick], time.monotonic()
    found = Measured(
        scale,
        corpus(scale.rows, scale.size, scale.many, seed, scale.device),
        bytes_a_ms(scale.copied_bytes, scale.device, scale.device, scale.repeats),
    )
    card = torch.cuda.get_device_name() if scale.device == "cuda" else "a CPU, in Triton's interpreter"
    found.notes += [
        f"{scale.rows:,} rows x {scale.size} on {card}, torch {torch.__version__}",
        f"a copy moves {found.bytes_a_ms / 1e9:.2f} TB/s, read and written: the floor is bytes of rows at that rate",
    ]
    for many, tunings in ((1, scale.few), (scale.many, scale.more)):
        _tune(found, many, tunings)
    found.notes.append(f"made ready, kernels compiled, in {time.monotonic() - began:.0f} s")
    for note in found.notes:
        say(note)
    return found


def _tune(found: Measured, many: int, tunings: tuple[Tuning | None, ...]) -> None:
    halves: Any = found.corpus.halves
    some = DeviceRows(halves.data[: len(halves) // 5], "float16", "dot", found.scale.size)
    taken: dict[Tuning | None, float] = {}
    for each in tunings:
        try:
            taken[each] = milliseconds(partial(Replayed(some, tuning=each).search, found.queries(many), K), 5)
        except Exception as error:  # it does not fit this GPU, say: the others are measured
            found.notes.append(f"{many} queries, {each}: {error}")
    if not taken:
        raise RuntimeError(f"no layout of the scan runs here: {found.notes[-1]}")
    found.tunings[many] = min(taken, key=lambda each: taken[each])
    told = ", ".join(f"{each}: {took:.3f} ms" for each, took in taken.items())
    found.notes.append(f"{many} queries, a fifth of the rows: {told}")


def found_by(work: Callable[[], Any], truth: Any) -> float:  # noqa: ANN401
    """The share of `truth` that a search finds."""
    return recall(work()[1], truth)


say = partial(part.say, of="gpu")
