"""HTTP as bytes on a socket, for what no client library would send."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from tests.fakes import PATIENCE_S

Connect = Callable[[], "Connection"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One response: header names in lower case, the body as it travelled."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:  # noqa: ANN401
        """The body, read as JSON."""
        return json.loads(self.body)


class Closed(Exception):
    """The server closed the connection where an answer was expected."""


class Connection:
    """A connection to a server in this machine, which answers within the test's patience or fails the test."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread = b""

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leaves."""
        self._socket.close()

    def send(self, *pieces: bytes) -> None:
        """Sends each piece."""
        for each in pieces:
            self._socket.sendall(each)

    def send_what_it_takes(self, pieces: Iterable[bytes]) -> None:
        """Sends until everything is out or the server has hung up."""
        with suppress(ConnectionError):
            for each in pieces:
                self._socket.sendall(each)

    def end(self) -> None:
        """Says that nothing more will be sent; answers can still be read."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def ask(self, *pieces: bytes) -> Answer:
        """Sends, and reads one answer."""
        self.send(*pieces)
        return self.read()

    def read(self, *, bodiless: bool = False) -> Answer:
        """The next answer; `bodiless` where it answers HEAD. Raises Closed."""
        head = self._until(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status = int(first.split(" ")[1])
        size = 0 if bodiless or status == 100 else int(headers["content-length"])
        return Answer(status, headers, self._exactly(size))

    def rest(self) -> list[Answer]:
        """Every answer that still comes before the server closes."""
        answers = []
        try:
            while True:
                answers.append(self.read())
        except Closed:
            return answers

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._unread:
            self._receive()
        found, _, self._unread = self._unread.partition(mark)
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._unread) < size:
            self._receive()
        found, self._unread = self._unread[:size], self._unread[size:]
        return found

    def _receive(self) -> None:
        try:
            got = self._socket.recv(1 << 20)
        except ConnectionError as error:
            raise Closed("reset") from error
        if not got:
            raise Closed(f"closed, after {self._unread!r}")
        self._unread += got

    def is_closed(self) -> bool:
        """Whether the server closes without another word; waits for either."""
        try:
            self._receive()
        except Closed:
            return True
        return False


def request(method: str, target: str, body: bytes | None = None, **headers: str) -> bytes:
    """A request as bytes; `_` in the names of headers stands for `-`."""
    sent = {"Host": "localhost", **{name.replace("_", "-"): value for name, value in headers.items()}}
    if body is not None:
        sent["Content-Length"] = str(len(body))
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + (body or b"")


def chunked(*pieces: bytes) -> bytes:
    """A body in chunks."""
    return b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in (*pieces, b""))
