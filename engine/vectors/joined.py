"""Several folds of different points as one state: the partitions of a topic that one process follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.log.kafka_keys import key_bytes, partitions_of
from engine.vectors.declaration import CollectionSpec
from engine.vectors.fold import Fold
from engine.vectors.locations import ABSENT, id_column
from engine.vectors.values import PointId
from engine.vectors.view import Longs, View


class JoinedState:
    """See `readable.State`. `folds`: those there are now, by partition, whose parts have different keys; `partitions`: how many
    the topic has. Any thread."""

    def __init__(
        self, spec: CollectionSpec, folds: Callable[[], Mapping[int, Fold]], partitions: Callable[[], int]
    ) -> None:
        self.spec = spec
        self._folds, self._partitions = folds, partitions
        self._shown: tuple[tuple[View, ...], View] = (), View(spec, ())

    @property
    def view(self) -> View:
        """The parts of all; its offset is the sum of theirs, another after every entry."""
        return self._joined(tuple([each.view for each in self._folds().values()]))

    def _joined(self, views: tuple[View, ...]) -> View:
        """The same one while none of them has changed, so that what was worked out of it is used again."""
        known, found = self._shown
        if len(known) != len(views) or any(old is not new for old, new in zip(known, views, strict=True)):
            parts = tuple([part for view in views for part in view.parts])
            found = View(self.spec, parts, sum(each.offset for each in views))
            self._shown = views, found
        return found

    def locate(self, ids: Sequence[PointId] | npt.NDArray[np.uint64], tenant: str | None = None) -> tuple[View, Longs]:
        """See `Fold.locate`: of a view that has what each partition said of its own ids."""
        folds = self._folds()
        views = {number: each.view for number, each in folds.items()}
        found = np.full(len(ids), ABSENT, np.int64)
        if len(ids):
            column = pa.array(id_column(ids, integer=self.spec.id == "integer"))
            owners = partitions_of(key_bytes(column), self._partitions(), 0)
            for number in np.unique(owners).tolist():
                if number in folds:
                    here = np.flatnonzero(owners == number)
                    some = ids[here] if isinstance(ids, np.ndarray) else [ids[at] for at in here.tolist()]
                    views[number], found[here] = folds[number].locate(some, tenant)
        return self._joined(tuple(views.values())), found
