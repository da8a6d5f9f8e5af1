"""Counted handles and the snapshot that requests look up."""

from __future__ import annotations

import random
import threading

import pytest

from engine import NotFound, Unavailable
from engine.control.registry import Handle, Registry, Served, Snapshot


def _handle(version: int = 1, idles: list[int] | None = None) -> Handle[str]:
    counted = [] if idles is None else idles
    return Handle("m", version, f"v{version}", lambda: counted.append(version))


def _snapshot(*handles: Handle[str], unserved: dict[str, str] | None = None) -> Snapshot[str]:
    versions = {each.version: each for each in handles}
    return Snapshot({"m": Served(versions[max(versions)], versions)} if versions else {}, unserved or {})


def test_retired_handle_takes_no_more_users_and_tells_when_the_last_has_left() -> None:
    idles: list[int] = []
    handle = _handle(idles=idles)
    assert handle.acquire()
    assert handle.acquire()
    handle.release()
    handle.retire()
    assert not handle.acquire()
    assert (handle.users, idles) == (1, [])
    handle.release()
    assert (handle.users, idles) == (0, [1])


def test_handle_in_service_never_says_that_it_is_idle() -> None:
    idles: list[int] = []
    handle = _handle(idles=idles)
    handle.acquire()
    handle.release()
    assert idles == []


def test_newest_version_answers_where_none_is_named() -> None:
    registry: Registry[str] = Registry()
    registry.publish(_snapshot(_handle(2), _handle(10)))
    assert registry.find("m", None).version == 10
    assert registry.find("m", 2).version == 2


def test_unknown_model_and_version_name_what_there_is() -> None:
    registry: Registry[str] = Registry()
    with pytest.raises(NotFound, match=r"^Request for unknown model: 'm' is not found$"):
        registry.find("m", None)
    registry.publish(_snapshot(_handle(2), _handle(10), unserved={"other": "warming"}))
    with pytest.raises(NotFound, match="no version 3 ready; ready: 2, 10"):
        registry.find("m", 3)
    with pytest.raises(NotFound, match="unknown model: 'othr' is not found; nearest: 'other'"):
        registry.find("othr", None)
    with pytest.raises(Unavailable, match="model 'other' is not ready: warming"):
        registry.acquire("other", None)


def test_request_that_held_the_old_version_keeps_it_over_a_swap() -> None:
    registry: Registry[str] = Registry()
    old, new = _handle(1), _handle(2)
    registry.publish(_snapshot(old))
    held = registry.acquire("m", None)
    registry.publish(_snapshot(new))
    old.retire()
    assert held.hosted == "v1"
    assert registry.acquire("m", None).hosted == "v2"


@pytest.mark.parametrize("seed", range(3))
def test_no_request_is_lost_and_no_version_is_given_back_in_use_while_versions_race(seed: int) -> None:
    print(f"seed {seed}")
    registry: Registry[str] = Registry()
    idles: list[int] = []
    handles = [_handle(1, idles)]
    registry.publish(_snapshot(handles[0]))
    stop, failures, served = threading.Event(), list[str](), [0, 0, 0]

    def use(index: int) -> None:
        while not stop.is_set():
            handle = registry.acquire("m", None)
            if handle.version in idles:
                failures.append(f"version {handle.version} was given back before it was in use")
            served[index] += 1
            handle.release()

    users = [threading.Thread(target=use, args=(index,), daemon=True) for index in range(3)]
    for each in users:
        each.start()
    rng = random.Random(seed)
    for version in range(2, 120):
        handles.append(_handle(version, idles))
        registry.publish(_snapshot(handles[-1]))
        handles[-2].retire()
        for _ in range(rng.randrange(300)):
            pass
    stop.set()
    for each in users:
        each.join(20)
        assert not each.is_alive()
    assert failures == []
    assert all(each.users == 0 for each in handles)
    assert len(idles) == len(set(idles))
    assert all(served)


def test_what_is_held_answers_who_asks_for_it_after_another_took_its_place_until_it_is_let_go() -> None:
    idles: list[int] = []
    registry: Registry[str] = Registry()
    first, second = _handle(1, idles), Handle[str]("m", 1, "another", lambda: idles.append(2))
    registry.publish(_snapshot(first))
    let_go = registry.hold()
    registry.publish(_snapshot(second))
    first.retire()
    assert registry.acquire_such("m", 1, lambda each: each == "another") is second
    assert registry.acquire_such("m", None, lambda each: each == "v1") is first
    let_go()
    assert idles == []  # a request has it still
    assert registry.acquire_such("m", 1, lambda each: each == "v1") is None
    first.release()
    assert idles == [1]
    assert registry.acquire_such("n", None, lambda each: True) is None
