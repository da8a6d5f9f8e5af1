"""On one core what computes stays on the thread that brought it for longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import Engine, cores, parse_spec
from engine.limits import INLINE_ALONE_US_MAX, INLINE_COMPUTE_US_MAX

SPEC = "slates: {top: {k: 3}}"


@pytest.mark.parametrize(("count", "expected"), [(1, INLINE_ALONE_US_MAX), (2, INLINE_COMPUTE_US_MAX)])
def test_a_batch_is_short_for_longer_where_there_is_one_core(
    count: int, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "usable_cores", lambda: count)
    engine = Engine(parse_spec(SPEC, folder=tmp_path))
    engine.start()
    try:
        assert engine.describe("top", None).options.inline_us_max == expected
    finally:
        engine.close()
