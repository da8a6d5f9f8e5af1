"""Documents read in a process beside: what a file makes of a library, a crash, a loop without end, memory without end, is then
the end of that process and of no other.

A process is started when there is something to read, and reads one file after another.
"""

from __future__ import annotations

import math
import resource
import signal
import subprocess
from contextlib import suppress
from multiprocessing.connection import Connection

import msgspec

from engine.documents.declaration import DocumentsSpec
from engine.documents.document import Document
from engine.documents.limits import DOCUMENT_READER_BYTES_MAX
from engine.documents.reading import read_document
from engine.errors import DeadlineExceeded, Internal, InvalidArgument, TooLarge, VireoError, error_of_kind
from engine.kinds import decodable
from engine.process_beside import started_beside


class _Order(msgspec.Struct, frozen=True):
    name: str
    content: bytes
    spec: DocumentsSpec


class _Answer(msgspec.Struct, frozen=True):
    """`document` None: an error of `kind`."""

    document: Document | None = None
    kind: str = ""
    message: str = ""


class DocumentReader:
    """Reads documents of one spec, one at a time; for one thread."""

    def __init__(self, spec: DocumentsSpec) -> None:
        self._spec = spec
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    @property
    def process_id(self) -> int | None:
        """Of the process beside; None where none runs."""
        return None if self._process is None else self._process.pid

    def read(self, name: str, content: bytes) -> Document:
        """As `read_document`. Raises DeadlineExceeded after `seconds_max` too, and InvalidArgument where the process ended."""
        connection = self._connection or self._started()
        try:
            connection.send_bytes(msgspec.msgpack.encode(_Order(name, content, self._spec)))
            if not connection.poll(self._spec.seconds_max):
                raise DeadlineExceeded(f"takes more than {self._spec.seconds_max:g} s to read")
            answer = msgspec.msgpack.decode(connection.recv_bytes(), type=decodable(_Answer))
        except (EOFError, OSError) as error:
            raise InvalidArgument(f"ends the process that reads it: {self._ended()}") from error
        except BaseException:
            self.close()
            raise
        if answer.document is None:
            raise error_of_kind(answer.kind)(answer.message)
        return answer.document

    def _started(self) -> Connection:
        self._process, self._connection = started_beside(__name__, stderr=subprocess.DEVNULL)
        return self._connection

    def _ended(self) -> str:
        process = self._process
        assert process is not None, "it was started"
        with suppress(subprocess.TimeoutExpired):
            process.wait(1.0)
        code = process.returncode
        self.close()
        return f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"code {code}"

    def close(self) -> None:
        """Ends the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None


# In the process.


def main(connection: int) -> None:
    """Reads what comes by the socket `connection` until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the socket's end says when to stop
    resource.setrlimit(resource.RLIMIT_AS, (DOCUMENT_READER_BYTES_MAX, DOCUMENT_READER_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    orders = Connection(connection)
    with suppress(EOFError, OSError):
        while True:
            order = msgspec.msgpack.decode(orders.recv_bytes(), type=decodable(_Order))
            signal.alarm(math.ceil(order.spec.seconds_max) + 1)  # ends it if nobody else is left to
            orders.send_bytes(msgspec.msgpack.encode(_answer(order)))
            signal.alarm(0)


def _answer(order: _Order) -> _Answer:
    try:
        return _Answer(read_document(order.name, order.content, order.spec))
    except VireoError as error:
        return _told(error)
    except MemoryError:
        return _told(TooLarge(f"needs more than {DOCUMENT_READER_BYTES_MAX >> 30} GiB of memory to read"))
    except Exception as error:
        return _told(Internal(f"cannot be read: {type(error).__name__}: {error}"))


def _told(error: VireoError) -> _Answer:
    return _Answer(None, type(error).__name__, error.message)
