"""A caller over plain HTTP/2: several requests side by side on one connection, some of them taken back.

A small client over hpack: it announces windows so large that it need never give any back, and keeps to the server's.
"""

import socket
import struct
import time
from dataclasses import dataclass, field

from hpack import Decoder, Encoder

from benchmarks.soak.grpc_callers import PATIENCE_S
from benchmarks.soak.http_callers import JSON_BYTES_MAX, RESET, refused
from benchmarks.soak.http_form import HEADER_LENGTH, Body, binary_body, json_body, judge_body, path_of
from benchmarks.soak.outcome import WRONG, Outcome
from benchmarks.soak.questions import Question, Questions
from benchmarks.soak.vanishing import DATA, END_HEADERS, HEADERS, PREFACE, SETTINGS, frame

RST_STREAM, PING, GOAWAY, WINDOW_UPDATE = 3, 6, 7, 8
ACK = END_STREAM = 1
CANCEL = 8
INITIAL_WINDOW_SIZE = 4
WINDOW_MAX = (1 << 31) - 1
FIRST_WINDOW = 65_535
PIECE_BYTES = 16_384
CALLS_MAX = 8
ACTS_MAX = 200
"""Then the connection's window is nearly used up, and a new one is made."""


class Http2Error(Exception):
    """The server broke the connection or the protocol."""


@dataclass(slots=True)
class Exchange:
    """One request's answer as far as it has come."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False


class Http2Connection:
    """One connection. Raises Http2Error, OSError."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._encoder, self._decoder = Encoder(), Decoder()
        self._received = bytearray()
        self._next_stream = 1
        self._window, self._stream_window = FIRST_WINDOW, FIRST_WINDOW
        self._credit: dict[int, int] = {}
        self.exchanges: dict[int, Exchange] = {}
        settings = struct.pack(">HI", INITIAL_WINDOW_SIZE, WINDOW_MAX)
        update = struct.pack(">I", WINDOW_MAX - FIRST_WINDOW)
        self._socket.sendall(PREFACE + frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, update))

    def request(self, verb: str, path: str, headers: dict[str, str], *, body: bool) -> int:
        """Opens a stream; its number. With `body`, `send` is to follow."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        fields = [(":method", verb), (":scheme", "http"), (":path", path), (":authority", "soak")]
        fields += [(name.lower(), value) for name, value in headers.items()]
        flags = END_HEADERS | (0 if body else END_STREAM)
        self.exchanges[stream] = Exchange()
        self._credit[stream] = self._stream_window
        self._socket.sendall(frame(HEADERS, flags, stream, self._encoder.encode(fields)))
        return stream

    def send(self, stream: int, content: bytes, *, end: bool) -> None:
        """Sends a body, or a part of it, as fast as the server takes it. It may answer before it has all."""
        view = memoryview(content)
        while len(view) and not self.exchanges[stream].ended:
            size = min(len(view), PIECE_BYTES, self._window, self._credit[stream])
            if size <= 0:
                self._read_frame()
                continue
            last = end and size == len(view)
            self._socket.sendall(frame(DATA, END_STREAM if last else 0, stream, bytes(view[:size])))
            self._window -= size
            self._credit[stream] -= size
            view = view[size:]

    def cancel(self, stream: int) -> None:
        """Takes a request back."""
        self._socket.sendall(frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL)))
        self._credit.pop(stream, None)
        self.exchanges.pop(stream, None)

    def answer(self, stream: int) -> Exchange:
        """The whole answer, forgotten here."""
        while not self.exchanges[stream].ended:
            self._read_frame()
        self._credit.pop(stream, None)
        return self.exchanges.pop(stream)

    def vanish(self, *, reset: bool) -> None:
        """Leaves, whatever is open."""
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._socket.close()

    def _read_frame(self) -> None:
        head = self._take(9)
        size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        stream = int.from_bytes(head[5:], "big") & WINDOW_MAX
        payload = self._take(size)
        if kind == SETTINGS and not flags & ACK:
            self._settle(payload)
        elif kind == PING and not flags & ACK:
            self._socket.sendall(frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE:
            self._widen(stream, int.from_bytes(payload, "big"))
        elif kind == GOAWAY:
            raise Http2Error(f"GOAWAY {payload[4:8].hex()} {payload[8:]!r}")
        elif kind in (DATA, HEADERS, RST_STREAM):
            self._deliver(kind, flags, stream, payload)

    def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            came = self._socket.recv(1 << 18)
            if not came:
                raise Http2Error("the server has closed the connection")
            self._received += came
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    def _settle(self, payload: bytes) -> None:
        for number, value in struct.iter_unpack(">HI", payload):
            if number == INITIAL_WINDOW_SIZE:
                for stream in self._credit:
                    self._credit[stream] += value - self._stream_window
                self._stream_window = value
        self._socket.sendall(frame(SETTINGS, ACK, 0, b""))

    def _widen(self, stream: int, size: int) -> None:
        if not stream:
            self._window += size
        elif stream in self._credit:
            self._credit[stream] += size

    def _deliver(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        fields = self._decoder.decode(payload) if kind == HEADERS else []  # even where nobody waits: it has a state
        exchange = self.exchanges.get(stream)
        if exchange is None:
            return
        exchange.headers.update({str(name): str(value) for name, value in fields})
        if kind == DATA:
            exchange.body += payload
        if kind == RST_STREAM and not exchange.ended:
            raise Http2Error(f"stream {stream} was reset with error {int.from_bytes(payload, 'big')}")
        exchange.ended = exchange.ended or bool(flags & END_STREAM and kind != RST_STREAM)


class Http2Caller:
    """Asks over HTTP/2."""

    def __init__(self, port: int, questions: Questions) -> None:
        self._port = port
        self._questions = questions
        self._rng = questions.rng
        self._connection: Http2Connection | None = None
        self._acts = 0

    def close(self) -> None:
        """Leaves."""
        self._vanish(reset=False)

    def act(self) -> Outcome:
        """Some requests side by side, one of them perhaps taken back half-way; or a sudden leave in the midst."""
        self._acts += 1
        if self._connection is None:
            self._connection = Http2Connection(self._port)
        calls = [self._begin(self._connection) for _ in range(self._rng.randint(1, CALLS_MAX))]
        if self._rng.random() < 0.05 or self._acts % ACTS_MAX == 0:
            time.sleep(self._rng.uniform(0, 0.02))
            self._vanish(reset=self._rng.random() < 0.5)
            return Outcome("left", True)
        if self._rng.random() < 0.2:
            self._take_back(self._connection)
        outcomes = [self._judged(self._connection, *each) for each in calls]
        return next((each for each in outcomes if not each.fine), outcomes[-1])

    def _begin(self, connection: Http2Connection) -> tuple[int, Question | None]:
        if self._rng.random() < 0.2:
            return connection.request("GET", "/livez", {}, body=False), None
        question = self._question()
        body = self._body(question)
        stream = connection.request("POST", path_of(question), body.headers, body=True)
        connection.send(stream, body.content, end=True)
        return stream, question

    def _question(self) -> Question:
        kinds = [self._questions.fraud, self._questions.shout, self._questions.slow, self._questions.negate]
        return self._rng.choices(kinds, [5, 2, 1, 2])[0]()

    def _body(self, question: Question) -> Body:
        small = question.expected.array.nbytes <= JSON_BYTES_MAX
        return json_body(question) if small and self._rng.random() < 0.5 else binary_body(question)

    def _take_back(self, connection: Http2Connection) -> None:
        question = self._questions.negate(1 << 19)
        body = binary_body(question)
        stream = connection.request("POST", path_of(question), body.headers, body=True)
        connection.send(stream, body.content[: self._rng.randrange(len(body.content))], end=False)
        connection.cancel(stream)

    def _judged(self, connection: Http2Connection, stream: int, question: Question | None) -> Outcome:
        answer = connection.answer(stream)
        status = int(answer.headers[":status"])
        if status != 200:
            return refused(status, bytes(answer.body), frozenset())
        if question is None:
            return Outcome("OK", True) if answer.body == b"ok\n" else Outcome(WRONG, False, repr(answer.body))
        header_bytes = answer.headers.get(HEADER_LENGTH.lower())
        return judge_body(question, bytes(answer.body), None if header_bytes is None else int(header_bytes))

    def _vanish(self, *, reset: bool) -> None:
        if self._connection is not None:
            self._connection.vanish(reset=reset)
            self._connection = None
