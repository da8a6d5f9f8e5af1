"""What error messages repeat of a caller's text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine import Cancelled, ResourceExhausted, TooLarge, Unavailable, limits, nearest, quoted


@given(st.text(max_size=400))
def test_quoted_text_is_bounded_and_printable(text: str) -> None:
    shown = quoted(text)
    assert shown.isprintable()
    assert len(shown) <= 10 * limits.ECHO_CHARS_MAX + 40


def test_quoted_text_is_plain_where_it_can_be() -> None:
    assert quoted("größe") == "'größe'"
    assert quoted("a\nb") == r"'a\nb'"
    assert quoted("x" * 200) == f"'{'x' * 120}... (200 characters)'"


def test_nearest_names_the_nearest_or_what_is_known() -> None:
    assert nearest("rows_mx", ["rows_max", "bytes_max"]) == "; nearest: 'rows_max'"
    assert nearest("zzz", ["b", "a"]) == "; known: 'a', 'b'"
    assert nearest("zzz", []) == ""


@given(st.text(max_size=3000), st.lists(st.text(max_size=300), max_size=12))
def test_nearest_takes_any_text(name: str, known: list[str]) -> None:
    assert nearest(name, known).isprintable()


def test_only_errors_that_may_pass_are_retryable() -> None:
    assert [each.retryable for each in (Unavailable, ResourceExhausted, TooLarge, Cancelled)] == [
        True,
        True,
        False,
        False,
    ]
