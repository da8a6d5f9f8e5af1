"""Judging the rows of a past log in order, and finding what was known at past instants. They know nothing of anything else.

Rows are given by position; entities, event ids and partitions by dense codes, times in whole microseconds. Every kernel fills
the caller's arrays and releases the interpreter's lock. `docs/reference/features.md` has the rules that `judge` follows.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from kernels.compiled import kernel
from kernels.ranges import NEVER, lower_bound

Longs = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.int8]

APPLIED, FILTERED, DUPLICATE, LATE, FUTURE, NULL_TIME, NULL_ENTITY, NULL_ID, OUT_OF_TIME = range(9)
TIME_MAX_US = ((1 << 32) - 2) * 1_000_000
"""State keeps seconds in 32 bits: from 1970 to 2106."""

SPAN: Final = 64
"""Events whose earliest arrival is kept, so that those that came much later are passed over."""


@kernel(cache=True, nogil=True)
def judge(
    entity: Longs,
    time: Longs,
    arrival: Longs,
    identity: Longs,
    passes: Bools,
    partition: Longs,
    lateness: int,
    future: int,
    watermarks: Longs,
    accepted: Longs,
    verdict: Bytes,
) -> None:
    """What becomes of each row, in their order.

    -1 in `entity` and `identity`, and NEVER in `time`, are nulls. Empty `arrival`: no row is from the future; empty
    `identity`: no id is declared. `watermarks` [partitions] and `accepted` [identities] begin as NEVER.
    """
    for row in range(len(entity)):
        at = time[row]
        if entity[row] < 0:
            verdict[row] = NULL_ENTITY
        elif at == NEVER:
            verdict[row] = NULL_TIME
        elif len(identity) and identity[row] < 0:
            verdict[row] = NULL_ID
        elif at < 0 or at > TIME_MAX_US:
            verdict[row] = OUT_OF_TIME
        elif len(arrival) and at > arrival[row] + future:
            verdict[row] = FUTURE
        elif watermarks[partition[row]] != NEVER and at < watermarks[partition[row]] - lateness:
            verdict[row] = LATE
        else:
            oldest = max(watermarks[partition[row]], at) - lateness
            watermarks[partition[row]] = max(watermarks[partition[row]], at)
            if len(identity):
                if accepted[identity[row]] != NEVER and accepted[identity[row]] >= oldest:
                    verdict[row] = DUPLICATE
                    continue
                accepted[identity[row]] = at
            verdict[row] = APPLIED if passes[row] else FILTERED


@kernel(cache=True, nogil=True)
def count_lives(order: Longs, entity: Longs, time: Longs, ttl: int, newest: Longs, life: Longs, out: Longs) -> None:
    """out[row]: how often the row's entity had started anew by then, taking the rows in `order`.

    `newest` [entities] begins as NEVER, `life` [entities] as 0; both end as after the last row.
    """
    for row in order:
        each = entity[row]
        if newest[each] != NEVER and time[row] - newest[each] > ttl:
            life[each] += 1
        newest[each] = max(newest[each], time[row])
        out[row] = life[each]


@kernel(cache=True, nogil=True)
def group(order: Longs, key: Longs, starts: Longs, out: Longs) -> None:
    """A stable counting sort: `order` by key[row], into `out`; group g becomes out[starts[g]:starts[g + 1]].

    `starts` [groups + 1] begins as zeros.
    """
    for row in order:
        starts[key[row] + 1] += 1
    for each in range(1, len(starts)):
        starts[each] += starts[each - 1]
    free = starts[:-1].copy()
    for row in order:
        out[free[key[row]]] = row
        free[key[row]] += 1


@kernel(cache=True, nogil=True)
def latest_known(
    entity: Longs, as_of: Longs, known: Longs, starts: Longs, arrival: Longs, times: Longs, segments: Longs, out: Longs
) -> None:
    """The segment of the last event before each query in order of arrival, -1 for none.

    Events of entity e are at positions starts[e]:starts[e + 1], by arrival; -1 in `entity` is one without events. An empty
    `arrival` means that events arrive in order of time, each at once.
    """
    for i in range(len(entity)):
        out[i] = -1
        if entity[i] < 0:
            continue
        low, at = starts[entity[i]], starts[entity[i] + 1]
        if len(arrival):
            at = lower_bound(arrival, low, at, known[i] + 1)
            while at > low and times[at - 1] >= as_of[i]:
                at -= 1
        else:
            at = lower_bound(times, low, at, as_of[i])
        if at > low:
            out[i] = segments[at - 1]


@kernel(cache=True, nogil=True)
def arrival_bounds(starts: Longs, arrival: Longs, latest: Longs, earliest: Longs) -> None:
    """latest[i]: the latest arrival of the segment's events up to i; earliest[k]: the earliest in the k-th block of `SPAN`."""
    for segment in range(len(starts) - 1):
        so_far = NEVER
        for i in range(starts[segment], starts[segment + 1]):
            so_far = max(so_far, arrival[i])
            latest[i] = so_far
    for block in range(len(earliest)):
        earliest[block] = arrival[block * SPAN : (block + 1) * SPAN].min()


@kernel(cache=True, nogil=True)
def known_ranges(
    segment: Longs,
    as_of: Longs,
    known: Longs,
    starts: Longs,
    times: Longs,
    arrival: Longs,
    latest: Longs,
    earliest: Longs,
    begin: Longs,
    cut: Longs,
    end: Longs,
    newest: Longs,
) -> None:
    """Of each query's segment the events before it: [begin, cut) all known, [cut, end) some, the last among them; and its time.

    Empty `arrival`, `latest` and `earliest` (see `arrival_bounds`): all are known. `newest` is NEVER where there is none.
    """
    for i in range(len(segment)):
        begin[i] = cut[i] = end[i] = 0
        newest[i] = NEVER
        if segment[i] < 0:
            continue
        low, high = starts[segment[i]], starts[segment[i] + 1]
        high = lower_bound(times, low, high, as_of[i])
        begin[i] = low
        cut[i] = high
        if len(arrival):
            cut[i] = lower_bound(latest, low, high, known[i] + 1)
            while high > cut[i] and arrival[high - 1] > known[i]:
                block = high // SPAN - 1
                whole = high % SPAN == 0 and high - SPAN >= cut[i]
                high -= SPAN if whole and earliest[block] > known[i] else 1
        end[i] = high
        if high > low:
            newest[i] = times[high - 1]
