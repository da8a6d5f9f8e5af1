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
from tests.engine.log.kafka_member import State, expected, load

PARTITIONS = 6
WAIT_S = 60.0
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def broker() -> Iterator[Tansu]:
    with tansu() as broker:
        yield broker


class Members:
    """Processes of one group."""

    def __init__(self, broker: Tansu, topic: str, folder: Path, strategy: str) -> None:
        words = [broker.address, topic, str(folder), strategy]
        self._command = [sys.executable, "-m", "tests.engine.log.kafka_member", *words]
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """One more."""
        self.running.append(subprocess.Popen(self._command, cwd=ROOT))

    def end(self, how: signal.Signals, which: int) -> None:
        """One fewer."""
        one = self.running.pop(which)
        one.send_signal(how)
        code = one.wait(WAIT_S)
        assert code in (0, -how), "0: it gave its partitions back; -SIGTERM: it had not begun"

    def kill_all(self) -> None:
        """Whatever is left."""
        for each in self.running:
            each.kill()
            each.wait()


def folded(folder: Path) -> State:
    """All partitions together."""
    states = [load(folder, each) for each in range(PARTITIONS)]
    return {name: sum(each[name] for each in states) for name in ("rows", "sum", "squares")}


def wait_for(folder: Path, count: int) -> None:
    """Until so many rows are in saved states."""
    deadline_s = time.monotonic() + WAIT_S
    while folded(folder)["rows"] < count:
        assert time.monotonic() < deadline_s, f"{folded(folder)['rows']} of {count} rows came"
        time.sleep(0.02)


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
        wait_for(tmp_path, 200)
        for step in steps:
            send(1_500)
            if step == "start":
                members.start()
            else:
                how = signal.SIGKILL if step == "kill" else signal.SIGTERM
                members.end(how, rng.randrange(len(members.running)))
            if not members.running:
                members.start()
            wait_for(tmp_path, min(sent - 1_000, folded(tmp_path)["rows"] + 300))
        while members.running:
            send(500)
            members.end(signal.SIGTERM, 0)
        members.start()
        wait_for(tmp_path, sent)
        members.end(signal.SIGTERM, 0)
        assert folded(tmp_path) == expected(sent), f"seed {seed}"
    finally:
        members.kill_all()
        log.close()
