"""What ended streams leave behind: read from the C library in a process of its own, where nothing else is going on."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

pytest.importorskip("serving.native._wire", reason="the native transport is not built")

PROGRAM = """
import ctypes
from hpack import Encoder
from serving.native._wire import Session, Wire
from tests.serving.over_http2.frames import END_HEADERS, HEADERS, PREFACE, SETTINGS, frame

STREAMS, HEADER_BYTES = 1000, 3000

class Heap(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

read = ctypes.CDLL(None).mallinfo2
read.restype = Heap
wire = Wire(
    {"/a/b": ("b", True, False)}, lambda: None, streams_max=1024, header_bytes_max=65536, window_bytes=65536,
    connection_window_bytes=1 << 20, frame_bytes_max=1 << 20, message_bytes_max=1 << 20, queued_bytes_max=1 << 20,
    linger_ns=0,
)

def visit(streams):
    session, encoder = Session(wire), Encoder()
    session.receive(PREFACE + frame(SETTINGS))
    fields = [(":method", "POST"), (":scheme", "http"), (":path", "/a/b"), (":authority", "here"),
              ("content-type", "application/grpc"), ("te", "trailers"), ("x-long", "x" * HEADER_BYTES)]
    for number in range(streams):
        session.receive(frame(HEADERS, END_HEADERS, 2 * number + 1, encoder.encode(fields)))
    held, opened = read().uordblks, session.streams
    session.lost()
    wire.take(streams)
    wire.dirty()
    return opened, held

visit(1)
before = read().uordblks
opened, held = visit(STREAMS)
print(opened, held - before, read().uordblks - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="tells of its heap in another way")
def test_a_crowd_of_streams_leaves_little_behind() -> None:
    """What stays of each lies anywhere in the heap, which can give nothing back that lies below it."""
    shown = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    opened, held, left = map(int, shown.split())
    assert opened == 1000
    assert held > 3_000_000
    assert left < 500_000
