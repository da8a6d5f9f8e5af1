"""What the drivers do with a state: the views that are declared, the checker of torn reads, the lookups that are timed."""

from collections.abc import Callable
from itertools import islice

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.features.drive_contention import HOT, hot_chunks, torn_rows
from benchmarks.features.events import START_US, Stream, batches, blocks
from benchmarks.features.kernel_clock import kernel_times_us
from benchmarks.features.states import chunks_of, state_of
from benchmarks.features.views import Declared, judged_view, narrow_view, paired_view, wide_view


@pytest.mark.parametrize(
    ("view", "features"), [(judged_view, 21), (narrow_view, 20), (wide_view, 50), (paired_view, 37)]
)
def test_every_view_has_as_many_features_as_it_is_said_to_have(view: Callable[[], Declared], features: int) -> None:
    state = state_of(view())
    assert len(state.view.features) == features


@pytest.fixture(scope="module")
def hot_rows() -> tuple[list[str], np.ndarray]:
    state = state_of(paired_view(entities_max=16))
    for chunk in islice(hot_chunks(), 3):
        assert not state.ingest(chunk)
    return [each.name for each in state.view.features], state.lookup(pa.array([HOT] * 4), 0).values


def test_a_state_between_two_events_is_not_torn(hot_rows: tuple[list[str], np.ndarray]) -> None:
    names, values = hot_rows
    assert not torn_rows(names, values).any()


@pytest.mark.parametrize(
    "part", ["amount_count_1m", "other_sum_1h", "amount_variance_24h", "other_min_1m", "amount_last"]
)
def test_a_read_with_one_part_of_another_state_is_torn(hot_rows: tuple[list[str], np.ndarray], part: str) -> None:
    names, values = hot_rows
    for wrong in (values[1, names.index(part)] + 1, np.nan):
        torn = values.copy()
        torn[1, names.index(part)] = wrong
        assert torn_rows(names, torn).tolist() == [False, True, False, False]


def test_lookups_timed_from_compiled_code_find_every_card() -> None:
    stream = Stream(entities=50, events=200)
    table = pa.Table.from_batches(list(blocks(stream)))
    state = state_of(narrow_view(entities_max=100))
    for chunk in chunks_of(batches(table, 64)):
        assert not state.ingest(chunk)
    assert state.entities == 50
    took = kernel_times_us(state, np.arange(50), START_US + 1, count=5, calls=30)
    assert took.shape == (30,)
    assert (took > 0).all()
