"""Sockets that say half of something and leave: by RST, by FIN, or by silence first."""

import socket
import struct
import time
from collections.abc import Callable
from random import Random

from hpack import Encoder

from benchmarks.soak.http_callers import RESET
from benchmarks.soak.outcome import Outcome
from benchmarks.soak.questions import Questions

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS = 0, 1, 4
END_HEADERS = 4
CONNECT_S_MAX = 10.0
SILENCE_S_MAX = 1.0
INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame (RFC 9113 section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def call_head(path: str, stream: int = 1) -> bytes:
    """The HEADERS frame that opens a gRPC call."""
    fields = [
        (":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "soak"),
        ("content-type", "application/grpc"), ("te", "trailers"),
    ]  # fmt: skip
    return frame(HEADERS, END_HEADERS, stream, Encoder().encode(fields))


HELLO = PREFACE + frame(SETTINGS, 0, 0, b"")


def part_of_http2(rng: Random) -> bytes:
    """The beginning of an HTTP/2 connection, cut anywhere: in the preface, in a frame, in a message."""
    message = struct.pack(">BI", 0, 1 << 20) + rng.randbytes(rng.randint(0, 40_000))
    whole = HELLO + call_head(rng.choice([INFER, STREAM])) + frame(DATA, 0, 1, message[:16_000])
    return whole[: rng.randint(0, len(whole))]


def many_calls(rng: Random) -> bytes:
    """Calls opened and never finished."""
    heads = [call_head(rng.choice([INFER, STREAM]), 2 * number + 1) for number in range(rng.randint(1, 100))]
    return HELLO + b"".join(heads)


def part_of_http1(rng: Random) -> bytes:
    """The beginning of a POST, cut anywhere."""
    body = rng.randbytes(4096)
    head = f"POST /v2/models/negate/infer HTTP/1.1\r\nHost: soak\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    return (head + body)[: rng.randint(0, len(head) + len(body) - 1)]


def whole_http1(rng: Random) -> bytes:
    """Requests whose answers nobody reads."""
    return b"GET /metrics HTTP/1.1\r\nHost: soak\r\n\r\n" * rng.randint(1, 20)


def garbage(rng: Random) -> bytes:
    """Anything."""
    return rng.randbytes(rng.randint(1, 4096))


SCRAPS: list[Callable[[Random], bytes]] = [part_of_http2, many_calls, part_of_http1, whole_http1, garbage]


class Vanisher:
    """Connects, says something of `SCRAPS`, and is gone."""

    def __init__(self, port: int, questions: Questions) -> None:
        self._port = port
        self._rng = questions.rng

    def close(self) -> None:
        """It holds nothing."""

    def act(self) -> Outcome:
        """One visit. That the server hangs up first is its right."""
        rng = self._rng
        scrap = rng.choice(SCRAPS)
        with socket.create_connection(("127.0.0.1", self._port), timeout=CONNECT_S_MAX) as sock:
            try:
                sock.sendall(scrap(rng))
                if rng.random() < 0.2:
                    sock.shutdown(socket.SHUT_WR)
                if rng.random() < 0.5:
                    time.sleep(rng.uniform(0, SILENCE_S_MAX))
                if rng.random() < 0.7:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            except OSError:
                return Outcome(f"{scrap.__name__}: hung up on", True)
        return Outcome(scrap.__name__, True)
