"""The users of an experiment, from tables of who was given what and of what came of it. Pure.

A user is a key of the split. Each counts for the variant of its first exposure, from that instant on: what happened before is
nobody's doing, what happened later is, whatever else was shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import InvalidArgument, quoted
from engine.experiments.estimates import Floats, Integers
from engine.log.columns import column_of, flat, instants

Crossed = Literal["first", "exclude"]
"""What becomes of users who were given two variants: they count for the first, or not at all."""


@dataclass(frozen=True, slots=True)
class Cohort:
    """Users in order of their keys' first appearance.

    `keys` are text; `variants` [users] number `names`; `first_us` [users] is when each was exposed first, microseconds since
    the epoch; `exposures` [users] counts those within the window.
    """

    names: tuple[str, ...]
    keys: pa.Array
    variants: Integers
    first_us: Integers
    exposures: Integers
    without_key: int
    crossed: int
    unripe: int = 0


@dataclass(frozen=True, slots=True)
class Totals:
    """What came of users: one sum a user for each column asked for. Rows: `counted`, of `strangers` who were never exposed,
    `early` (before the user's first exposure) and `late` (past the window)."""

    values: tuple[Floats, ...]
    rows: Integers
    strangers: int
    early: int
    late: int


def cohort_of(exposures: pa.Table, names: Sequence[str], crossed: Crossed, window_us: int | None) -> Cohort:
    """The users among `exposures` (columns variant, key, time), all of one experiment; rows without a key are nobody's.

    `names` are the variants' in order; others that come are added after them. Raises InvalidArgument for null variants and times.
    """
    keyed = exposures.filter(pc.is_valid(column_of(exposures, "key")))
    variants, names = _variants(keyed, names)
    times = _times(keyed, "time")
    encoded = _keys(keyed, "key").dictionary_encode()
    users = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    order = np.lexsort((times, users))  # stable: of equal times the row that lies first
    first = order[np.searchsorted(users[order], np.arange(len(encoded.dictionary)))]
    first_us = times[first]
    elsewhere = np.bincount(users, variants != variants[first][users], len(first)) > 0
    within = np.ones(len(users), np.bool_) if window_us is None else times < first_us[users] + window_us
    counts = np.bincount(users, within, len(first)).astype(np.int64)
    strays = exposures.num_rows - keyed.num_rows
    found = Cohort(names, encoded.dictionary, variants[first], first_us, counts, strays, int(elsewhere.sum()))
    return _only(found, ~elsewhere) if crossed == "exclude" else found


def ripe(cohort: Cohort, window_us: int, now_us: int) -> Cohort:
    """Only users whose window has passed at `now_us`: the others' outcomes are not all there yet."""
    whole = cohort.first_us + window_us <= now_us
    return replace(_only(cohort, whole), unripe=int((~whole).sum()))


def _only(cohort: Cohort, kept: npt.NDArray[np.bool_]) -> Cohort:
    return replace(
        cohort, keys=cohort.keys.filter(pa.array(kept)), variants=cohort.variants[kept], first_us=cohort.first_us[kept],
        exposures=cohort.exposures[kept],
    )  # fmt: skip


def totals(cohort: Cohort, outcomes: pa.Table, columns: Sequence[str], *, window_us: int | None) -> Totals:
    """Sums of `columns` of `outcomes` (beside key and time) from each user's first exposure on.

    Raises InvalidArgument for values that are missing, not finite or no numbers.
    """
    users, since_us = _rows_of(cohort, outcomes)
    known = users >= 0
    early = known & (since_us < 0)
    late = known & (since_us >= window_us) if window_us is not None else np.zeros(len(users), np.bool_)
    counted = known & ~early & ~late
    at, count = users[counted], len(cohort.keys)
    values = tuple(_sums(at, _numbers(outcomes, each)[counted], count) for each in columns)
    rows = np.bincount(at, minlength=count).astype(np.int64)
    return Totals(values, rows, int((~known).sum()), int(early.sum()), int(late.sum()))


def totals_before(cohort: Cohort, outcomes: pa.Table, column: str) -> Floats:
    """Sums of `column` before each user's first exposure: what cannot be of the experiment's making. 0 of nothing."""
    users, since_us = _rows_of(cohort, outcomes)
    before = (users >= 0) & (since_us < 0)
    return _sums(users[before], _numbers(outcomes, column)[before], len(cohort.keys))


def _sums(users: Integers, values: Floats, count: int) -> Floats:
    return np.bincount(users, values, count).astype(np.float64, copy=False)


def newest_us(table: pa.Table) -> int:
    """The newest time of exposures or outcomes, microseconds since the epoch; 0 of none."""
    return int(_times(table, "time").max(initial=0))


def _rows_of(cohort: Cohort, outcomes: pa.Table) -> tuple[Integers, Integers]:
    """Each outcome's user, -1 for strangers, and how long after that one's first exposure it came, in microseconds."""
    found = pc.index_in(_keys(outcomes, "key"), value_set=cohort.keys, skip_nulls=True).fill_null(-1)
    users = found.to_numpy(zero_copy_only=False).astype(np.int64)
    since_us = _times(outcomes, "time").copy()
    since_us[users >= 0] -= cohort.first_us[users[users >= 0]]
    return users, since_us


def _keys(table: pa.Table, name: str) -> Any:  # noqa: ANN401  a pa.Array
    """A column of keys as the text that exposures have: 42 is "42". Raises InvalidArgument for what is neither text nor a
    whole number."""
    values = flat(column_of(table, name))
    kind = values.type
    if not (pa.types.is_integer(kind) or pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)):
        raise InvalidArgument(f"column {quoted(name)}: a key is text or a whole number, got {kind}")
    try:
        return values.cast(pa.large_string())
    except pa.ArrowException as error:
        raise InvalidArgument(f"column {quoted(name)}: a key is UTF-8: {error}") from error


def _variants(exposures: pa.Table, names: Sequence[str]) -> tuple[Integers, tuple[str, ...]]:
    values = flat(column_of(exposures, "variant"))
    if values.null_count:
        raise InvalidArgument(f"column 'variant': {values.null_count} of {len(values)} values are null")
    seen = [each for each in values.unique().to_pylist() if each not in names]
    every = (*names, *sorted(seen))
    codes = pc.index_in(values, value_set=pa.array(every, values.type))
    return codes.to_numpy(zero_copy_only=False).astype(np.int64), every


def _times(table: pa.Table, name: str) -> Integers:
    values = instants(table, name)
    if values.null_count:
        raise InvalidArgument(f"column {quoted(name)}: {values.null_count} of {len(values)} times are null")
    found: Integers = values.to_numpy(zero_copy_only=False)
    return found


def _numbers(table: pa.Table, name: str) -> Floats:
    values = flat(column_of(table, name))
    kind = values.type
    if not any(
        test(kind) for test in (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean)
    ):
        raise InvalidArgument(f"column {quoted(name)}: expected numbers, got {kind}")
    if pa.types.is_boolean(kind):
        values = values.cast(pa.int8())
    found: Floats = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    if bad := int((~np.isfinite(found)).sum()):
        raise InvalidArgument(f"column {quoted(name)}: {bad} of {len(found)} values are null or not finite")
    return found
