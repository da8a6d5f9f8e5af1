"""One member of a consumer group in a process of its own, which folds what it reads into states that outlive it.

`python -m tests.engine.log.kafka_member ADDRESS TOPIC GROUP STRATEGY FOLDER` runs until SIGTERM, which lets it give its
partitions back; SIGKILL does not. A partition's state is a fold over its entries: the offset it stands at, how many rows, and two
sums that a missing or repeated row would change.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Collection
from pathlib import Path

import numpy as np

from engine.errors import Unavailable
from engine.log.declaration import KafkaLogSpec
from engine.log.kafka import KafkaLog
from engine.log.log import Chunk, Offsets
from tests.engine.log.contract import SCHEMA

State = dict[str, int]
SESSION = {"session.timeout.ms": "1500", "heartbeat.interval.ms": "200"}
SAVE_CHUNKS = 4
"""While there is more to read, states are saved after so many chunks only, so that the killed lose some."""


class Folds:
    """Owner. An older state never replaces a newer one: who was thought dead may still be writing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._states: dict[int, State] = {}
        self._unsaved = 0

    def assigned(self, partitions: Collection[int]) -> Offsets:
        """Owner."""
        for each in partitions:
            self._states[each] = load(self._folder, each)
        return {each: self._states[each]["next"] for each in partitions if self._states[each]["next"]}

    def revoked(self, partitions: Collection[int]) -> None:
        """Owner."""
        for each in partitions:
            self._save(each)
            del self._states[each]

    def fold(self, chunk: Chunk) -> None:
        """One more chunk; it must begin where the state stands."""
        state = self._states[chunk.partition]
        assert chunk.first == state["next"], f"partition {chunk.partition}: {chunk.first} follows {state['next']}"
        ids = chunk.batch.column("id").to_numpy()
        state["next"] = chunk.next
        state["rows"] += len(ids)
        state["sum"] += int(ids.sum())
        state["squares"] += int((ids * ids).sum())
        self._unsaved += 1
        if self._unsaved >= SAVE_CHUNKS:
            self.save()

    def save(self) -> None:
        """All states, where they are newer than what is saved."""
        self._unsaved = 0
        for each in self._states:
            self._save(each)

    def _save(self, partition: int) -> None:
        state = self._states[partition]
        if state["next"] > load(self._folder, partition)["next"]:
            draft = self._folder / f".{partition}-{os.getpid()}"
            draft.write_text(json.dumps(state))
            draft.rename(self._folder / f"{partition}.json")


def load(folder: Path, partition: int) -> State:
    """What was saved last of a partition."""
    file = folder / f"{partition}.json"
    found: State = json.loads(file.read_text()) if file.exists() else {"next": 0, "rows": 0, "sum": 0, "squares": 0}
    return found


def expected(count: int) -> State:
    """Of rows 0 to `count` - 1, all partitions together."""
    ids = np.arange(count)
    return {"rows": count, "sum": int(ids.sum()), "squares": int((ids * ids).sum())}


def main(address: str, topic: str, group: str, strategy: str, folder: Path) -> None:
    """Reads until SIGTERM."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    settings = {**SESSION, "partition.assignment.strategy": strategy}
    log = KafkaLog(KafkaLogSpec(address, topic, group=group, settings=settings), SCHEMA)
    folds = Folds(folder)
    reader = log.reader(folds)
    while not stopped:
        try:
            chunks = reader.read(20, 0.2)
            for chunk in chunks:
                folds.fold(chunk)
            if not chunks:
                folds.save()
        except Unavailable as error:
            print(error, file=sys.stderr)
    reader.close()
    log.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], Path(sys.argv[5]))
