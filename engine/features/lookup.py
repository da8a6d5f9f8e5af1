"""One view as its readers see it: features of entities now, read your writes, and what it has been through."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from engine.errors import InvalidArgument, Unavailable, VireoError, nearest, quoted
from engine.features.answer import MISSING, PRESENT, Answers, FeatureRows, Given, Wanted
from engine.limits import LOOKUP_ROWS_MAX
from engine.log.log import Appended, Offsets

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.features.fold import Fold
    from engine.features.lag import Lag
    from engine.features.pipeline import Pipeline
    from engine.features.sampling import Sampling
    from engine.features.shards import Shards
    from engine.features.state_reads import StateRows
    from engine.features.view import View


@dataclass(frozen=True, slots=True)
class ViewStatistics:
    """What became of the events, in totals since the state began, and how far it is.

    `lag_rows`: entries of the log that are not folded. `watermark_us`: the newest event time seen. `restored`: whether
    lookups are answered. `error`: what is wrong now. `covered`: entries left out because `table` at `table_version` had
    brought them, in `table_rows` rows.
    """

    applied: int = 0
    duplicates: int = 0
    filtered: int = 0
    late: int = 0
    dead: int = 0
    entities: int = 0
    bytes: int = 0
    offsets: dict[int, int] = field(default_factory=dict)
    lag_rows: int = 0
    watermark_us: int | None = None
    restored: bool = False
    error: str = ""
    covered: int = 0
    table: str | None = None
    table_version: int | None = None
    table_rows: int = 0


class FeatureView:
    """A view that follows its log. Any thread."""

    def __init__(
        self,
        view: View,
        entity_type: pa.DataType,
        *,
        shards: Shards,
        pipeline: Pipeline,
        lag: Lag,
        wall_us: Callable[[], int],
        closed: Callable[[FeatureView], None],
        sampling: Sampling | None = None,
    ) -> None:
        self.name, self.view, self.entity_type = view.name, view, entity_type
        self.features = tuple(each.name for each in view.features)
        self._int64 = str(entity_type) == "int64"
        self._shards, self._pipeline, self._lag = shards, pipeline, lag
        self._wall_us, self._closed, self._sampling = wall_us, closed, sampling
        self._answers = Answers(view)
        self._closing = threading.Lock()

    @property
    def ready(self) -> bool:
        """Whether it has caught up with what its log held when it began."""
        return self._pipeline.ready

    @property
    def problem(self) -> str | None:
        """Why lookups are not answered; None where they are."""
        if self._pipeline.ready:
            return None
        why = f": {self._pipeline.error}" if self._pipeline.error else f", {self._shards.missing()} entries to read"
        return f"feature view {quoted(self.name)} is still restoring{why}"

    @property
    def failure(self) -> VireoError | None:
        """Why it never will be ready; None where it is or may be."""
        return self._pipeline.failure

    def check_ready(self) -> None:
        """Raises Unavailable while it is restoring, or the reason why it never will be ready."""
        if self._pipeline.ready:
            return
        if self._pipeline.failure is not None:
            raise type(self._pipeline.failure)(self._pipeline.failure.message)
        raise Unavailable(self.problem or f"feature view {quoted(self.name)} has just been restored", retry_after_s=1.0)

    def lookup(
        self,
        keys: pa.Array | int,
        *,
        as_of_us: int | npt.NDArray[np.int64] | None = None,
        request: Mapping[str, Any] | None = None,
        features: Sequence[str] | None = None,
    ) -> FeatureRows:
        """The features of `keys` at `as_of_us` (now), those named, in the order named (all, as declared).

        `keys` is an Arrow array, or an int: one entity, which where entities are int64 takes half the time. `request` are
        Arrow arrays with a row a key; one left out is null. Takes microseconds. Raises InvalidArgument for names, types or
        counts that do not fit, Unavailable while the view is restoring.
        """
        self.check_ready()
        if as_of_us is None:
            as_of_us = self._wall_us()
        if isinstance(keys, int):
            if self._int64 and keys.bit_length() < 64 and isinstance(as_of_us, int) and as_of_us.bit_length() < 64:
                return self._rows(keys, as_of_us, request or {}, features)
            keys = one_key(self.name, self.entity_type, keys)
        keys = checked_keys(self.name, self.entity_type, keys, as_of_us)
        return self._rows(keys, as_of_us, request or {}, features)

    def numbers_of(self, names: Sequence[str]) -> tuple[int, ...]:
        """Where features that are numbers and no expressions are in the view. Raises InvalidArgument for others."""
        for name in names:
            feature = next((each for each in self.view.features if each.name == name), None)
            if feature is None or feature.text or feature.expression is not None:
                raise InvalidArgument(
                    f"feature view {quoted(self.name)} has no feature {quoted(name)} that is aggregated and a number"
                    f"{nearest(name, self.features)}"
                )
        return tuple(self.features.index(name) for name in names)

    def gather(
        self,
        keys: pa.Array,
        features: Sequence[int],
        defaults: npt.NDArray[np.float32],
        buffer: npt.NDArray[np.float32],
        first: int,
        *,
        as_of_us: int | npt.NDArray[np.int64] | None = None,
    ) -> npt.NDArray[np.bool_]:
        """Features, by their number in the view, of n `keys` into columns `first` and on of `buffer` (float32 [n, W]), `defaults`
        (float32 [features]) where they are null; which entities are there and not stale.

        The features are numbers and no expressions; keys have the entity's type and no nulls. No sample is taken of it. Raises
        Unavailable while the view is restoring.
        """
        self.check_ready()
        instants = self._wall_us() if as_of_us is None else as_of_us
        folds = tuple(self._shards.folds.values())
        if not folds:
            raise Unavailable(self.problem or f"feature view {quoted(self.name)} has no partition", retry_after_s=1.0)
        newest_us, status = folds[0].state.nothing_of(len(keys))
        for fold in folds:
            fold.state.gather(keys, instants, features, defaults, buffer, first, (newest_us, status))
        present: npt.NDArray[np.bool_] = status == PRESENT
        return present

    def _rows(
        self,
        keys: pa.Array | int,
        as_of_us: int | npt.NDArray[np.int64],
        request: Given,
        features: Sequence[str] | None,
    ) -> FeatureRows:
        wanted = self._answers.wanted(features)
        first, *others = self._shards.folds.values() or (None,)
        if first is None:  # the last partition has just been taken away
            raise Unavailable(self.problem or f"feature view {quoted(self.name)} has no partition", retry_after_s=1.0)
        found = _found(first, keys, as_of_us, wanted)
        values, times, status = found.values, found.event_time_us, found.status
        texts: dict[str, list[str | None]] = {}
        for position, column in found.texts.items():
            texts[wanted.features[position].name] = column
        least_us: int | npt.NDArray[np.int64] = found.least_us
        for fold in others:
            other = _found(fold, keys, as_of_us, wanted)
            newer = (other.status != MISSING) & ((status == MISSING) | (other.event_time_us > times))
            values[newer] = other.values[newer]
            times[newer], status[newer] = other.event_time_us[newer], other.status[newer]
            least_us = _least_us(least_us, other.least_us, newer, status)
            for position, column in other.texts.items():
                name = wanted.features[position].name
                texts[name] = [new if take else old for old, new, take in zip(texts[name], column, newer, strict=True)]
        if wanted.computed or request:
            self._answers.compute(wanted, values, texts, request)
        if wanted.columns is not None:
            values = np.ascontiguousarray(values[:, wanted.columns])
            texts = {name: texts[name] for name in wanted.names if name in texts}
        rows = FeatureRows(wanted.names, values, texts, times, status)
        if self._sampling is not None and not self._sampling.skips(len(status)):
            whole = one_key(self.name, self.entity_type, keys) if isinstance(keys, int) else keys
            self._sampling.offer(whole, as_of_us, least_us, request, rows)
        return rows

    def forget_sampled(self) -> None:
        """Begins its sample of what is served anew."""
        if self._sampling is not None:
            self._sampling.forget()

    def wait(self, appended: Appended, timeout_s: float) -> bool:
        """Whether lookups see these entries, at the latest after `timeout_s`: read your writes."""
        return self._pipeline.wait(appended, timeout_s)

    def tell(self, offsets: Offsets, call: Callable[[], None]) -> bool:
        """Whether `call` will be called, once, on the view's thread, when lookups see everything before `offsets`: not where they
        do already. `tell_no_more` takes it back."""
        return self._pipeline.tell(offsets, call)

    def tell_no_more(self, call: Callable[[], None]) -> None:
        """Forgets `call`, where it was not called yet."""
        self._pipeline.tell_no_more(call)

    def statistics(self) -> ViewStatistics:
        """Totals and state as they are now."""
        folds = tuple(self._shards.folds.values())
        states = [fold.state for fold in folds]
        counts = [state.counts for state in states]
        offsets = self._shards.offsets()
        marks = [mark for state in states for mark in dict(state.watermarks).values()]
        began = next((fold.began for fold in folds if fold.began), None)
        return ViewStatistics(
            applied=sum(each.applied for each in counts),
            duplicates=sum(each.duplicates for each in counts),
            filtered=sum(each.filtered for each in counts),
            late=sum(each.late for each in counts),
            dead=sum(each.dead for each in counts),
            entities=sum(state.entities for state in states),
            bytes=sum(state.bytes for state in states),
            offsets=offsets,
            lag_rows=self._lag.rows(offsets),
            watermark_us=max(marks, default=None),
            restored=self.ready,
            error=self._pipeline.error,
            covered=sum(fold.covered for fold in folds),
            table=began.table if began else None,
            table_version=began.version if began else None,
            table_rows=began.rows if began else 0,
        )

    def await_ready(self, timeout_s: float) -> bool:
        """Whether it is ready, at the latest after `timeout_s`; at once where it never will be."""
        return self._pipeline.await_ready(timeout_s)

    def close(self) -> None:
        """Writes a last snapshot and follows its log no more. Answers are given until it is forgotten."""
        self._pipeline.close()
        if self._sampling is not None:
            self._sampling.close()
        if self._closing.acquire(blocking=False):  # once, whoever else closes it
            self._closed(self)


def one_key(view: str, entity_type: pa.DataType, key: int) -> pa.Array:
    """An entity that is a whole number, as an array. Raises InvalidArgument where it has more than 64 bits."""
    import pyarrow as pa

    try:
        return pa.array([key])
    except OverflowError as error:
        raise InvalidArgument(f"feature view {quoted(view)}: entities are {entity_type}, got {key}") from error


def checked_keys(
    view: str, entity_type: pa.DataType, keys: pa.Array, as_of_us: int | npt.NDArray[np.int64] | None
) -> pa.Array:
    """The keys of a lookup as the entity's type. Raises InvalidArgument where they cannot be, are null or too many, or where
    there is not one instant for each."""
    import pyarrow as pa

    where = f"feature view {quoted(view)}"
    if keys.type != entity_type:
        try:
            keys = keys.cast(entity_type)
        except pa.ArrowException as error:
            raise InvalidArgument(f"{where}: entities are {entity_type}, got {keys.type}: {error}") from error
    if keys.null_count:
        raise InvalidArgument(f"{where}: {keys.null_count} of {len(keys)} entities are null")
    if len(keys) > LOOKUP_ROWS_MAX:
        raise InvalidArgument(f"{where}: {len(keys)} entities, at most {LOOKUP_ROWS_MAX} are allowed")
    if isinstance(as_of_us, np.ndarray) and len(as_of_us) != len(keys):
        raise InvalidArgument(f"{where}: {len(as_of_us)} instants for {len(keys)} entities; expected as many")
    return keys


def _found(fold: Fold, keys: pa.Array | int, as_of_us: int | npt.NDArray[np.int64], wanted: Wanted) -> StateRows:
    if isinstance(keys, int):
        assert isinstance(as_of_us, int)
        return fold.state.lookup_one(keys, as_of_us, wanted.kept)
    return fold.state.lookup(keys, as_of_us, wanted.kept)


def _least_us(
    least_us: int | npt.NDArray[np.int64],
    other_us: int,
    newer: npt.NDArray[np.bool_],
    status: npt.NDArray[np.uint8],
) -> npt.NDArray[np.int64]:
    """By row, the instant before which it was not answered: that of the partition it is from; of a missing row, the latest."""
    return np.where(newer, other_us, np.where(status == MISSING, np.maximum(least_us, other_us), least_us))
