"""kill -9 at random moments, in writes and syncs too: what was acknowledged is there. VIREO_CRASH_ROUNDS asks for more rounds."""

from __future__ import annotations

import os
from pathlib import Path

from tests.engine.vectors.crash.rounds import Crashes, forker

ROUNDS = int(os.environ.get("VIREO_CRASH_ROUNDS", "15"))


def test_what_a_collection_acknowledged_outlives_kill_9_at_any_moment(tmp_path: Path) -> None:
    with forker() as child:
        crashes = Crashes(tmp_path, 11, child)
        for _ in range(ROUNDS):
            crashes.round()
    assert crashes.tally.acknowledged > 0, crashes.tally
