"""Random operations on a collection agree with a dictionary and brute force.

VIREO_MODEL_STEPS asks for more of them, 100,000 for example; VIREO_MODEL_SEED for one walk alone, which replays it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.vectors import planner
from tests.engine.vectors.walk import Walk

STEPS = int(os.environ.get("VIREO_MODEL_STEPS", "3000"))
STEPS_OF_WALK = 250
FIRST = int(os.environ.get("VIREO_MODEL_SEED", "0"))
SEEDS = [FIRST] if "VIREO_MODEL_SEED" in os.environ else range(-(-STEPS // STEPS_OF_WALK))


@pytest.mark.parametrize("seed", SEEDS)
def test_random_operations_agree_with_a_dictionary_and_brute_force(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if indexed := seed % 6 == 5:
        for each in ("INDEX_US", "INDEX_ROW_US", "SELECTED_ROW_US"):  # so few rows are quicker scanned than found
            monkeypatch.setattr(planner, each, 0.0)
    walk = Walk(tmp_path, seed, indexed=indexed)
    did: list[str] = []
    try:
        for _ in range(STEPS_OF_WALK):
            did.append(walk.step())
        walk.whole()
    except Exception as error:
        error.add_note(f"VIREO_MODEL_SEED={seed}: step {len(did)}, after {did[-1:]}")
        raise
    finally:
        walk.close()
    if walk.recall.wanted:
        assert walk.recall.found >= 0.8 * walk.recall.wanted, f"recall: {walk.recall}"
