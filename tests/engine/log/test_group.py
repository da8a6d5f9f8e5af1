"""Group commit: who waits goes together, in the order of arrival, and nobody is forgotten."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence

import pyarrow as pa
import pytest

from engine.errors import Internal, ResourceExhausted, Unavailable
from engine.log.group import GROUP_BYTES_MAX, GroupCommit, Pending
from tests.engine.log.contract import WAIT_S


def pending(size: int = 8) -> Pending:
    """A batch of one row."""
    return Pending(pa.py_buffer(bytes(size)), 1, 0)


class Gate:
    """A commit that notes its groups and waits where it is told to."""

    def __init__(self) -> None:
        self.groups: list[list[Pending]] = []
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()
        self.fault: Exception | None = None
        self.inside = 0

    def __call__(self, group: Sequence[Pending]) -> None:
        """Commits."""
        self.inside += 1
        assert self.inside == 1, "one thread at a time"
        self.groups.append(list(group))
        self.entered.release()
        assert self.open.wait(WAIT_S)
        self.inside -= 1
        if self.fault is not None:
            raise self.fault


def waiting(group: GroupCommit) -> int:
    """How many wait for the next commit."""
    return len(group._waiting)


def submit_behind(gate: Gate, group: GroupCommit, members: Sequence[Pending]) -> list[threading.Thread]:
    """The first is at the disk when the others come, one after the other."""
    threads = []
    for count, each in enumerate(members):
        threads.append(threading.Thread(target=quietly(group, each)))
        threads[-1].start()
        if not count:
            assert gate.entered.acquire(timeout=WAIT_S)
        while waiting(group) < count:
            assert threads[-1].is_alive()
    return threads


def quietly(group: GroupCommit, each: Pending) -> Callable[[], None]:
    """Submits; what is raised stands in the pending itself."""

    def submit() -> None:
        try:
            group.submit(each)
        except (ResourceExhausted, Internal):
            assert each.error is not None

    return submit


def join(threads: list[threading.Thread]) -> None:
    """All of them end."""
    for each in threads:
        each.join(WAIT_S)
        assert not each.is_alive()


def test_one_goes_alone_and_those_who_wait_go_together_in_order() -> None:
    gate = Gate()
    group = GroupCommit("log", gate)
    members = [pending() for _ in range(6)]
    threads = submit_behind(gate, group, members)
    gate.open.set()
    join(threads)
    assert gate.groups == [members[:1], members[1:]]


def test_a_group_takes_no_more_than_its_bytes_but_always_one() -> None:
    gate = Gate()
    group = GroupCommit("log", gate)
    large = pa.py_buffer(bytes(GROUP_BYTES_MAX // 2 + 1))
    members = [Pending(large, 1, 0) for _ in range(3)]
    threads = submit_behind(gate, group, members)
    gate.open.set()
    join(threads)
    assert gate.groups == [[each] for each in members]


def test_what_a_commit_raises_is_raised_to_each_of_its_group_alone() -> None:
    gate = Gate()
    group = GroupCommit("log", gate)
    members = [pending() for _ in range(3)]
    threads = submit_behind(gate, group, members)
    gate.fault = ResourceExhausted("full")
    gate.open.set()
    join(threads)
    assert all(each.error is gate.fault for each in members)
    gate.fault = ValueError("a mistake")
    with pytest.raises(Internal, match="a mistake"):
        group.submit(pending())
    gate.fault = None
    group.submit(pending())


def test_closing_waits_for_all_that_was_taken_and_then_takes_nothing() -> None:
    gate = Gate()
    group = GroupCommit("log", gate)
    members = [pending() for _ in range(3)]
    threads = submit_behind(gate, group, members)
    closed: list[bool] = []
    closing = threading.Thread(target=lambda: closed.append(group.close()))
    closing.start()
    assert not closed
    gate.open.set()
    join([*threads, closing])
    assert closed == [True]
    assert sum(len(each) for each in gate.groups) == 3
    assert group.close() is False
    with pytest.raises(Unavailable, match="log: is closed"):
        group.submit(pending())


def test_who_is_interrupted_while_waiting_leaves_and_the_others_go_on() -> None:
    gate = Gate()
    group = GroupCommit("log", gate)
    first, mine, other = pending(), pending(), pending()
    threads = submit_behind(gate, group, [first])

    def interrupt() -> None:
        while waiting(group) < 1:
            pass
        threads.append(threading.Thread(target=quietly(group, other)))
        threads[-1].start()
        while waiting(group) < 2:
            pass
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    interrupting = threading.Thread(target=interrupt)
    usual = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    try:
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            group.submit(mine)
    finally:
        signal.signal(signal.SIGUSR1, usual)
    assert waiting(group) == 1
    gate.open.set()
    join([interrupting, *threads])
    assert gate.groups == [[first], [other]]
    assert group.close()
