"""Durations are read as people write them, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.duration import DURATION_US_MAX, duration_text, duration_us
from engine.errors import SpecError


@pytest.mark.parametrize(
    ("text", "us"),
    [("10s", 10_000_000), ("5m", 300_000_000), ("1h30m", 5_400_000_000), ("7d", 604_800_000_000), ("500ms", 500_000),
     ("3us", 3), ("0s", 0), ("90m", 5_400_000_000), ("1d2h3m4s5ms6us", 93_784_005_006)],
)  # fmt: skip
def test_a_duration_is_whole_microseconds(text: str, us: int) -> None:
    assert duration_us(text) == us


@given(st.integers(0, DURATION_US_MAX))
def test_what_is_written_is_read_again(us: int) -> None:
    assert duration_us(duration_text(us)) == us


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "s",
        "10 s",
        "1.5h",
        "-1s",
        "1m1h",
        "1s1s",
        "1H",
        "1w",
        "+1s",
        "1s ",
        "\u0661s",
        "9" * 500 + "s",
        "1s\n",
    ],
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SpecError, match="expected a duration such as '10s'"):
        duration_us(text)


def test_ten_years_are_the_longest() -> None:
    assert duration_us("3650d") == DURATION_US_MAX
    with pytest.raises(SpecError, match="at most 3650d, got '3650d1us'"):
        duration_us("3650d1us")
