"""Started by test_local_crash: per line of its input it forks a process that appends until it is killed.

Forking spares each round the start of an interpreter. Nothing here has started a thread before it forks.
"""

from __future__ import annotations

import os
import random
import sys
import threading
from pathlib import Path

import pyarrow as pa

from engine.log.declaration import LocalLogSpec
from engine.log.local import LocalLog
from engine.log.schema import arrow_schema

SCHEMA = arrow_schema({"thread": "int32", "number": "int64", "text": "string"})
THREADS = 3


def batch(thread: int, first: int, count: int) -> pa.RecordBatch:
    """Rows `first` to first + count - 1 of one thread."""
    numbers = range(first, first + count)
    return pa.record_batch(
        [
            pa.array([thread] * count, pa.int32()),
            pa.array(numbers, pa.int64()),
            pa.array([text(thread, number) for number in numbers]),
        ],
        schema=SCHEMA,
    )


def text(thread: int, number: int) -> str:
    """What stands in this row."""
    return f"{thread}:{number}:" + "x" * (number * 7 % 50)


def spec(folder: Path) -> LocalLogSpec:
    """Small segments, so that many crashes fall where one ends."""
    return LocalLogSpec(str(folder), segment_bytes=8 << 10)


def append_for_ever(folder: Path, seed: int, starts: list[int]) -> None:
    """Tells "first next thread number" of each acknowledged append, in one write each."""
    log = LocalLog(spec(folder), SCHEMA, folder)

    def work(thread: int) -> None:
        chance, number = random.Random(seed * THREADS + thread), starts[thread]
        while True:
            count = chance.choice([1, 3, 40])
            appended = log.append(batch(thread, number, count))
            os.write(1, f"{appended.first} {appended.next} {thread} {number}\n".encode())
            number += count

    threads = [threading.Thread(target=work, args=(each,)) for each in range(THREADS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()


def main() -> None:
    """Lines "folder seed start start start" in; "pid N" out, then acknowledgements, then "dead"."""
    batch(0, 0, 1)  # pyarrow looks for pandas at the first array: a second that no child shall spend again
    for line in sys.stdin:
        folder, seed, *starts = line.split()
        child = os.fork()
        if child == 0:
            append_for_ever(Path(folder), int(seed), [int(each) for each in starts])
            os._exit(1)
        os.write(1, f"pid {child}\n".encode())
        os.waitpid(child, 0)
        os.write(1, b"dead\n")


if __name__ == "__main__":
    main()
