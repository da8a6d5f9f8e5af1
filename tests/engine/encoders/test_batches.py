"""Batches of texts are bounded by their tokens, padding counted, and every text is in one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.encoders.batches import token_batches


def test_texts_of_like_length_run_together_the_shortest_first() -> None:
    assert token_batches([9, 2, 8, 2, 1], tokens_max=18, rows_max=9) == [[4, 1, 3], [2, 0]]
    assert token_batches([3, 3, 3], tokens_max=100, rows_max=2) == [[0, 1], [2]]
    assert token_batches([50, 1], tokens_max=10, rows_max=9) == [[1], [0]]
    assert token_batches([], tokens_max=10, rows_max=9) == []


@given(st.lists(st.integers(1, 60), max_size=80), st.integers(1, 200), st.integers(1, 9))
def test_every_text_is_in_one_batch_within_the_bounds(lengths: list[int], tokens_max: int, rows_max: int) -> None:
    batches = token_batches(lengths, tokens_max=tokens_max, rows_max=rows_max)
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = len(batch) * max(lengths[place] for place in batch)
        assert len(batch) <= rows_max
        assert padded <= tokens_max or len(batch) == 1
