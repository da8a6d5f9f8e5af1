"""A gRPC server that answers every call with the same bytes, unread: it shows what the generator can offer.

    python -m benchmarks.peers.null_server --port 9000
    $(python -m benchmarks.load.native.build) 9000              # the same in C++, for the native engine

HTTP/2 by hand, one thread, no flow control towards the client beyond returning its credit at once.

What the generator offers from one core against the C++ one on another, fraud requests (1,024 in rotation), medians of
three seconds on a quiet 2-core machine (AMD EPYC of family 26, virtual). CPU is the generator's, idle spinning left out;
an open loop is on time where the p99 of its lateness is below 0.1 ms.

    | load                              | native: requests/s, CPU   | Python: requests/s, CPU |
    |-----------------------------------|---------------------------|-------------------------|
    | 1 caller                          |    42,700  7.6 µs         |  23,200  22 µs          |
    | 32 callers, 8 connections         |   565,000  1.7 µs         | 231,000  4.3 µs         |
    | 32 callers, 1 connection          | 1,141,000  0.43 µs        | 346,000  2.3 µs         |
    | 256 callers, 8 connections        | 2,666,000  0.37 µs        | 463,000  2.1 µs         |
    | Poisson 20,000/s, 8 connections   | on time    11 µs          | on time  17 µs          |
    | Poisson 50,000/s                  | on time    8.9 µs         | on time  14 µs          |
    | Poisson 150,000/s                 | on time    5.5 µs         |                         |
    | Poisson 200,000/s                 | on time, but 95% of its core: past what a verdict allows |

Most of what is left is the kernel's: a send and a receive through the loopback, which requests share where several are
due at a time or on one connection.
"""

import argparse
import asyncio
import struct
from typing import cast

import uvloop

from benchmarks.load.headers import literal
from benchmarks.load.http2 import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    PREFACE,
    SETTINGS,
    WINDOW_MAX_BYTES,
    WINDOW_UPDATE,
    frame,
    settings_payload,
)  # fmt: skip

_frame = struct.Struct(">HBBBI")
_u32 = struct.Struct(">I")
BODY = b"\x00\x00\x00\x00\x10" + bytes(16)
GREETING = (
    frame(SETTINGS, 0, 0, settings_payload({MAX_CONCURRENT_STREAMS: 10_000, INITIAL_WINDOW_SIZE: WINDOW_MAX_BYTES}))
    + frame(WINDOW_UPDATE, 0, 0, _u32.pack(WINDOW_MAX_BYTES - 65_535))
)  # fmt: skip
HEAD = frame(HEADERS, END_HEADERS, 0, b"\x88" + literal("content-type", "application/grpc"))
TRAILERS = frame(HEADERS, END_HEADERS | END_STREAM, 0, literal("grpc-status", "0"))
PARTS = (HEAD[:5], HEAD[9:] + frame(DATA, 0, 0, BODY)[:5], BODY + TRAILERS[:5], TRAILERS[9:])


class NullServer(asyncio.Protocol):
    """One connection."""

    _transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass
        self._rest, self._spent_bytes = b"", 0
        self._transport.write(GREETING)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        position = len(PREFACE) if data.startswith(PREFACE) else 0
        out: list[bytes] = []
        while len(data) - position >= FRAME_BYTES:
            high, low, kind, flags, stream_id = _frame.unpack_from(data, position)
            after = position + FRAME_BYTES + (high << 8 | low)
            if after > len(data):
                break
            self._on_frame(kind, flags, stream_id, after - position, out)
            position = after
        self._rest = data[position:]
        self._transport.write(b"".join(out))

    def _on_frame(self, kind: int, flags: int, stream_id: int, size: int, out: list[bytes]) -> None:
        if kind == DATA:
            self._spent_bytes += size - FRAME_BYTES
            if flags & END_STREAM:
                coded = _u32.pack(stream_id)
                out += (PARTS[0], coded, PARTS[1], coded, PARTS[2], coded, PARTS[3])
            if self._spent_bytes > WINDOW_MAX_BYTES // 2:
                out.append(frame(WINDOW_UPDATE, 0, 0, _u32.pack(self._spent_bytes)))
                self._spent_bytes = 0
        elif kind == SETTINGS and not flags & ACK:
            out.append(frame(SETTINGS, ACK, 0))


async def serve(port: int) -> None:
    """Serve on 127.0.0.1 until cancelled."""
    server = await asyncio.get_running_loop().create_server(NullServer, "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=9000)
    uvloop.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
