"""The gate: many beside each other, or one alone, who is not kept waiting by those that come after it."""

from __future__ import annotations

import random
import threading

import pytest

from engine.vectors.gate import Gate
from tests.fakes import PATIENCE_S


def test_any_number_pass_beside_each_other() -> None:
    gate = Gate()
    all_in = threading.Barrier(4, timeout=PATIENCE_S)

    def enter() -> None:
        with gate.beside():
            all_in.wait()

    threads = [threading.Thread(target=enter) for _ in range(3)]
    for each in threads:
        each.start()
    enter()
    for each in threads:
        each.join()
    assert not all_in.broken


def test_who_is_alone_is_alone_whatever_the_others_do() -> None:
    gate, inside, wrong = Gate(), [0, 0], list[str]()
    lock = threading.Lock()

    def walk(seed: int) -> None:
        source = random.Random(seed)
        for _ in range(400):
            kind = source.random() < 0.2
            with gate.alone() if kind else gate.beside():
                with lock:
                    inside[kind] += 1
                    if inside[1] > 1 or (inside[1] and inside[0]):
                        wrong.append(str(inside))
                with lock:
                    inside[kind] -= 1

    threads = [threading.Thread(target=walk, args=(seed,)) for seed in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(PATIENCE_S)
    assert not any(each.is_alive() for each in threads), "a lock that nobody opens"
    assert not wrong


def test_who_comes_after_one_that_wants_to_be_alone_waits_for_it() -> None:
    gate, order = Gate(), list[str]()
    wants, passed = threading.Event(), threading.Event()

    def alone() -> None:
        wants.set()
        with gate.alone():
            order.append("alone")

    def after() -> None:
        with gate.beside():
            order.append("after")
        passed.set()

    with gate.beside():
        first = threading.Thread(target=alone)
        first.start()
        assert wants.wait(PATIENCE_S)
        while not gate._waiting:
            pass
        second = threading.Thread(target=after)
        second.start()
        assert not passed.wait(0.05)
        assert order == []
    first.join(PATIENCE_S)
    second.join(PATIENCE_S)
    assert order == ["alone", "after"]


def test_an_error_inside_leaves_the_gate_open() -> None:
    gate = Gate()
    for way in (gate.beside, gate.alone, gate.beside, gate.alone):
        with pytest.raises(RuntimeError), way():
            raise RuntimeError
    with gate.alone():
        pass
