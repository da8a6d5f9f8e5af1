"""python -m tests.engine.vectors.crash [ROUNDS [SEED]]: the crash test, as long as one likes; 200 rounds unless told."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.engine.vectors.crash.rounds import Crashes, forker


def main() -> None:
    """Tells what was seen every 20 rounds. What a failing round left is kept."""
    rounds, seed = (int(each) for each in (*sys.argv[1:], *("200", "1")[len(sys.argv) - 1 :]))
    folder = Path(tempfile.mkdtemp(prefix="vireo-crash-"))
    begun_s = time.perf_counter()
    with forker() as child:
        crashes = Crashes(folder, seed, child)
        for at in range(1, rounds + 1):
            crashes.round()
            if at % 20 == 0 or at == rounds:
                print(f"{time.perf_counter() - begun_s:.0f} s: {crashes.tally}", flush=True)


if __name__ == "__main__":
    main()
