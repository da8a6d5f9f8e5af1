"""Consumers that come, go and are killed while rows arrive: every row is folded exactly once."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.log.declaration import KafkaLogSpec
from engine.log.kafka import KafkaLog
from tests.engine.log.broker import Tansu, tansu
from tests.engine.log.contract import SCHEMA, rows
from tests.engine.log.kafka_member import SESSION, State, expected, load

PARTITIONS = 6
STILL_S = 45.0
"""For so long no row comes before somebody is at fault."""
ALONE_S = 20.0
"""Within so long a consumer that is alone in a group is given its partitions."""
GROUPS_MAX = 4
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def broker() -> Iterator[Tansu]:
    with tansu() as broker:
        yield broker


class Members:
    """Processes of one group that save their states in `folder`.

    Tansu 0.6 may lose a group: one whose leader says farewell while the group forms goes on naming that leader, far beyond its
    session, and nobody is given anything any more. Then, and only then, all are killed and go on in another group.
    """

    def __init__(self, broker: Tansu, topic: str, folder: Path, strategy: str) -> None:
        self._broker = broker
        self._topic = topic
        self._folder = folder
        self._strategy = strategy
        self._groups = 1
        self.running: list[subprocess.Popen[bytes]] = []

    @property
    def _group(self) -> str:
        return f"members-of-{self._topic}-{self._groups}"

    def start(self) -> None:
        """One more."""
        words = [self._broker.address, self._topic, self._group, self._strategy, str(self._folder)]
        command = [sys.executable, "-m", "tests.engine.log.kafka_member", *words]
        self.running.append(subprocess.Popen(command, cwd=ROOT))

    def end(self, how: signal.Signals, which: int) -> None:
        """One fewer."""
        one = self.running.pop(which)
        one.send_signal(how)
        code = one.wait(2 * STILL_S)
        assert code in (0, -how), "0: it gave its partitions back; -SIGTERM: it had not begun"

    def kill_all(self) -> None:
        """Whatever is left."""
        while self.running:
            each = self.running.pop()
            each.kill()
            each.wait()

    def folded(self) -> State:
        """All partitions together."""
        states = [load(self._folder, each) for each in range(PARTITIONS)]
        return {name: sum(each[name] for each in states) for name in ("rows", "sum", "squares")}

    def wait_for(self, count: int) -> None:
        """Until so many rows are in saved states; however slow, as long as some come."""
        came, since_s = -1, time.monotonic()
        while (rows_now := self.folded()["rows"]) < count:
            assert all(each.poll() is None for each in self.running), "a member has failed"
            if rows_now != came:
                came, since_s = rows_now, time.monotonic()
            elif time.monotonic() - since_s > STILL_S:
                self._leave_lost_group(f"{came} of {count} rows came")
                since_s = time.monotonic()
            time.sleep(0.02)

    def _leave_lost_group(self, so_far: str) -> None:
        """Fails unless the broker has lost the group: it gives nothing to a plain consumer that is alone there either."""
        count = len(self.running)
        self.kill_all()
        assert not self._is_served(), f"{so_far}, and then none, though the broker gives partitions to who asks"
        assert self._groups < GROUPS_MAX, so_far
        print(f"{so_far}, and then none: the broker has lost the group {self._group}")
        self._groups += 1
        for _ in range(count):
            self.start()

    def _is_served(self) -> bool:
        import confluent_kafka as kafka

        mine: list[kafka.TopicPartition] = []
        names = {"bootstrap.servers": self._broker.address, "group.id": self._group, "log_level": 0}
        alone = kafka.Consumer({**names, **SESSION, "partition.assignment.strategy": self._strategy})
        alone.subscribe([self._topic], on_assign=lambda _, partitions: mine.extend(partitions))
        deadline_s = time.monotonic() + ALONE_S
        while not mine and time.monotonic() < deadline_s:
            alone.poll(0.1)
        alone.close()
        return bool(mine)


@pytest.mark.parametrize(
    ("strategy", "steps"),
    [
        ("cooperative-sticky", ("start", "kill", "start", "start", "leave", "kill", "start")),
        ("range", ("start", "kill", "start", "leave")),
    ],
)
def test_every_row_is_folded_exactly_once_across_kills_rebalances_and_farewells(
    broker: Tansu, tmp_path: Path, strategy: str, steps: tuple[str, ...]
) -> None:
    seed = 20261126
    rng = random.Random(seed)
    topic = broker.topic(PARTITIONS)
    members = Members(broker, topic, tmp_path, strategy)
    log = KafkaLog(KafkaLogSpec(broker.address, topic, key="id"), SCHEMA)
    sent = 0

    def send(count: int) -> None:
        nonlocal sent
        log.append(rows(sent, count))
        sent += count

    try:
        members.start()
        send(2_000)
        members.wait_for(200)
        for step in steps:
            send(1_500)
            if step == "start":
                members.start()
            else:
                how = signal.SIGKILL if step == "kill" else signal.SIGTERM
                members.end(how, rng.randrange(len(members.running)))
            if not members.running:
                members.start()
            members.wait_for(min(sent - 1_000, members.folded()["rows"] + 300))
        while members.running:
            send(500)
            members.end(signal.SIGTERM, 0)
        members.start()
        members.wait_for(sent)
        members.end(signal.SIGTERM, 0)
        assert members.folded() == expected(sent), f"seed {seed}"
    finally:
        members.kill_all()
        log.close()
