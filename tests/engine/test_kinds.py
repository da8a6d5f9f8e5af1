"""Kinds that msgspec meets first on several threads at once, in a process of its own: what goes wrong there ends the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

MEET = """
import dataclasses, json, sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
import msgspec
from engine import decodable

STRUCT, SECONDS = sys.argv[1] == "struct", 60
INNER = {f"a{number}": number for number in range(20)}
OUTER = {f"b{number}": INNER for number in range(5)} | {"c": [INNER, INNER]}
BODY = json.dumps(OUTER).encode()
READERS = {
    "json": lambda kind: msgspec.json.decode(BODY, type=decodable(kind)),
    "msgpack": lambda kind: msgspec.msgpack.decode(msgspec.msgpack.encode(OUTER), type=decodable(kind)),
    "convert": lambda kind: msgspec.convert(OUTER, decodable(kind)),
}
read = READERS[sys.argv[2]]


def kinds():
    define = msgspec.defstruct if STRUCT else dataclasses.make_dataclass
    inner = define("Inner", [(name, int) for name in INNER])
    return define("Outer", [*((f"b{number}", inner) for number in range(5)), ("c", list[inner])])


def meet(kind):
    at_once.wait(SECONDS)
    for _ in range(3):
        found = read(kind)
        assert (found.b4.a19, found.c[1].a7) == (19, 7), found


sys.setswitchinterval(1e-6)
at_once = Barrier(6)
with ThreadPoolExecutor(6) as threads:
    for _ in range(60):
        list(threads.map(meet, [kinds()] * 6))
print("read")
"""


@pytest.mark.parametrize("reader", ["json", "msgpack", "convert"])
@pytest.mark.parametrize("kind", ["struct", "dataclass"])
def test_threads_that_meet_a_kind_first_all_read_it(kind: str, reader: str) -> None:
    met = subprocess.run([sys.executable, "-c", MEET, kind, reader], capture_output=True, text=True, timeout=120)
    assert (met.returncode, met.stdout) == (0, "read\n"), met.stderr[-2000:]
