"""Real inputs of a model, to calibrate it on and to judge it by. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidArgument, quoted
from engine.servables.servable import Tensors
from engine.tensor import BF16, Array, Tensor

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Samples:
    """`requests`: of a model that batches one, with all rows; else each is one that the model may be asked, and counts as a row.
    `source`: where they come from, `places`: which of its rows they are, None for all. `groups`: a label for each row, of a model
    that batches. `outcomes`: 0 or 1 for each score of each row.
    """

    source: str
    batchable: bool
    requests: tuple[Tensors, ...]
    groups: Array | None = None
    outcomes: tuple[Array, ...] | None = None
    places: Places | None = None

    @property
    def rows(self) -> int:
        """Rows, or requests where the model does not batch."""
        if not self.batchable:
            return len(self.requests)
        return next((len(each.array) for each in self.requests[0].values()), 0) if self.requests else 0

    def at(self, places: Places) -> Samples:
        """Those rows of all."""
        if self.batchable:
            requests: tuple[Tensors, ...] = tuple(_rows(each, places) for each in self.requests)
        else:
            requests = tuple(self.requests[each] for each in places)
        return Samples(
            self.source,
            self.batchable,
            requests,
            None if self.groups is None else self.groups[places],
            None if self.outcomes is None else tuple(self.outcomes[each] for each in places),
            places,
        )

    def split(self, calibration_rows: int, judged_rows: int) -> tuple[Samples, Samples]:
        """(rows to calibrate on, spread evenly, at most half of them; of the others the first, to judge by). Raises
        InvalidArgument where none are left for one of the two."""
        if self.rows < (2 if calibration_rows else 1):
            raise InvalidArgument(
                f"{self.source}: {self.rows} row(s), that is not enough to calibrate on and to judge by"
            )
        count = min(calibration_rows, self.rows // 2)
        chosen = np.linspace(0, self.rows - 1, count).astype(np.int64) if count else np.empty(0, np.int64)
        others = np.setdiff1d(np.arange(self.rows), chosen)[:judged_rows]
        return self.at(np.unique(chosen)), self.at(others)

    def cut(self, rows: int) -> Iterator[Tensors]:
        """Requests of at most `rows` rows each, where the model batches."""
        if not self.batchable:
            yield from self.requests
            return
        for begin in range(0, self.rows, rows):
            yield {
                name: Tensor(each.datatype, each.array[begin : begin + rows]) for name, each in self.requests[0].items()
            }

    def check_finite(self) -> None:
        """Raises InvalidArgument where an input holds what is no number: no range could be taken from it."""
        for place, request in enumerate(self.requests):
            for name, tensor in request.items():
                if tensor.datatype is BF16 or tensor.array.dtype.kind != "f" or np.isfinite(tensor.array).all():
                    continue
                row = int(np.argwhere(~np.isfinite(tensor.array))[0][0]) if self.batchable else place
                row = row if self.places is None else int(self.places[row])
                raise InvalidArgument(
                    f"{self.source}, row {row}: input {quoted(name)} is no finite number: nothing can be calibrated on that"
                )


def _rows(request: Tensors, places: Places) -> dict[str, Tensor]:
    return {name: Tensor(each.datatype, np.ascontiguousarray(each.array[places])) for name, each in request.items()}
