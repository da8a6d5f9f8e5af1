"""A rival's server in a process of its own on the loopback: ready within the `with` block, and gone after it."""

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from benchmarks.harness import ServerProcess

LOOPBACK = "127.0.0.1"
CONNECT_S_MAX = 1.0


class PeerServer:
    """Listens on `port`. Started at once; the `with` block is entered once it answers."""

    def __init__(self, command: Sequence[str], port: int, *, log: Path, core: int | tuple[int, ...] | None) -> None:
        self.port = port
        self.process = ServerProcess(command, log=log, core=core)

    def __enter__(self) -> Self:
        """Raises ServerError when it does not come up."""
        self.process.wait_ready(self._answers)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stop()

    def _answers(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.port), CONNECT_S_MAX) as connection:
                return self.greets(connection)
        except OSError:
            return False

    def greets(self, connection: socket.socket) -> bool:
        """Whether it is ready, now that it takes connections; may raise OSError."""
        return True
