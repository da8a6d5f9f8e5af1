"""The C++ wire behind the same Protocol as `Http2Wire`, and its reader of header blocks: for tests only.

`wire_probe.cpp` is compiled at the first call; a test that comes here without a compiler is skipped.
"""

import ctypes
from functools import cache
from pathlib import Path

import pytest

from benchmarks.load.headers import Head, HeaderError
from benchmarks.load.native.build import BuildError, library
from benchmarks.load.wire import Answer, WireError

SOURCE = Path(__file__).with_name("wire_probe.cpp")


@cache
def probe() -> ctypes.CDLL:
    """The compiled probe."""
    try:
        made = ctypes.CDLL(str(library(SOURCE)))
    except BuildError as error:
        pytest.skip(f"the native engine cannot be built here: {error}")
    made.wire_open.restype = ctypes.c_void_p
    made.wire_farewell.restype = ctypes.c_char_p
    made.wire_answer.restype = made.wire_outgoing_bytes.restype = ctypes.c_size_t
    for told in (made.wire_room, made.wire_spent, made.wire_receive, made.head_read):
        told.restype = ctypes.c_bool
    return made


class NativeWire:
    """See `benchmarks.load.wire.Wire`; every request sends the same body."""

    def __init__(self, *, block: bytes, body: bytes, window_bytes: int, first_id: int) -> None:
        self.outgoing: list[bytes] = []
        self._library = probe()
        sizes = ctypes.c_size_t(len(block)), ctypes.c_size_t(len(body))
        numbers = ctypes.c_uint32(window_bytes), ctypes.c_uint32(first_id)
        self._probe = ctypes.c_void_p(self._library.wire_open(block, sizes[0], body, sizes[1], *numbers))
        self._take()

    @property
    def farewell(self) -> str | None:
        told: bytes | None = self._library.wire_farewell(self._probe)
        return None if told is None else told.decode()

    def room(self) -> bool:
        return bool(self._library.wire_room(self._probe))

    def spent(self) -> bool:
        return bool(self._library.wire_spent(self._probe))

    def submit(self, tag: int) -> None:
        self._library.wire_submit(self._probe, ctypes.c_uint32(tag))
        self._take()

    def receive(self, data: bytes) -> list[Answer]:
        unbroken = self._library.wire_receive(self._probe, data, ctypes.c_size_t(len(data)))
        self._take()
        if not unbroken:
            raise WireError("as C++ sees it", self._answers())
        return self._answers()

    def lose(self) -> list[Answer]:
        self._library.wire_lose(self._probe)
        return self._answers()

    def _answers(self) -> list[Answer]:
        tag, status = ctypes.c_uint32(), ctypes.c_int16()
        found: list[Answer] = []
        while len(found) < self._answer(len(found), tag, status):
            found.append((tag.value, status.value))
        return found

    def _answer(self, at: int, tag: ctypes.c_uint32, status: ctypes.c_int16) -> int:
        place = ctypes.c_size_t(at)
        return int(self._library.wire_answer(self._probe, place, ctypes.byref(tag), ctypes.byref(status)))

    def _take(self) -> None:
        size = self._library.wire_outgoing_bytes(self._probe)
        taken = ctypes.create_string_buffer(size)
        self._library.wire_take_outgoing(self._probe, taken)
        if size:
            self.outgoing.append(taken.raw)

    def __del__(self) -> None:
        self._library.wire_close(self._probe)


def read_head_natively(block: bytes) -> Head:
    """As `headers.read_head`, by the C++ reader."""
    http, grpc = ctypes.c_int(), ctypes.c_int()
    if not probe().head_read(block, ctypes.c_size_t(len(block)), ctypes.byref(http), ctypes.byref(grpc)):
        raise HeaderError("as C++ sees it")
    return Head(None if http.value < 0 else http.value, None if grpc.value < 0 else grpc.value)
