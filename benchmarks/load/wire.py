"""What the pump asks of a protocol: bytes in, answers out, no sockets and no clock."""

from collections.abc import Sequence
from typing import Protocol

Answer = tuple[int, int]
"""(tag of the request, status as in `statuses`)."""


class WireError(Exception):
    """The peer broke the protocol; the connection is of no further use. `answers` came in the same bytes before that."""

    def __init__(self, why: str, answers: Sequence[Answer] = ()) -> None:
        super().__init__(why)
        self.answers = list(answers)


class Wire(Protocol):
    """One connection's protocol state. Owned by one pump; not for several threads."""

    outgoing: list[bytes]
    """Bytes to be sent, in order; the pump takes them and empties the list."""

    @property
    def farewell(self) -> str | None:
        """Why no more requests may be submitted, ever; None while they may."""
        ...

    def room(self) -> bool:
        """Whether one more request may be submitted now."""
        ...

    def spent(self) -> bool:
        """Nothing is in flight and nothing will be: the connection may be closed."""
        ...

    def submit(self, tag: int) -> None:
        """Put the request `tag` into `outgoing` (or hold back what flow control forbids)."""
        ...

    def receive(self, data: bytes) -> list[Answer]:
        """Take bytes from the peer; the requests that they finish. Raises WireError."""
        ...

    def lose(self) -> list[Answer]:
        """The connection is gone: all unfinished requests, as UNAVAILABLE."""
        ...
