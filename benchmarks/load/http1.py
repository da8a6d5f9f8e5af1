"""One HTTP/1.1 keep-alive connection that carries one request at a time. No sockets here."""

from collections.abc import Sequence

import httptools

from benchmarks.load.statuses import OK, UNAVAILABLE
from benchmarks.load.wire import Answer, WireError


class Http1Wire:
    """The client half of one connection; see `wire.Wire`. Request `tag` sends `requests[tag % len(requests)]`.

    A status of 2xx is OK; any other is kept as it is.
    """

    def __init__(self, *, requests: Sequence[bytes]) -> None:
        self.outgoing: list[bytes] = []
        self.farewell: str | None = None
        self._requests = requests
        self._tag: int | None = None
        self._answers: list[Answer] = []
        self._parser = httptools.HttpResponseParser(self)

    def room(self) -> bool:
        return self._tag is None and self.farewell is None

    def spent(self) -> bool:
        return self._tag is None and self.farewell is not None

    def submit(self, tag: int) -> None:
        self._tag = tag
        self.outgoing.append(self._requests[tag % len(self._requests)])

    def receive(self, data: bytes) -> list[Answer]:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise WireError(f"an HTTP/1.1 response: {error}", self._answers) from error
        answers, self._answers = self._answers, []
        return answers

    def on_message_complete(self) -> None:
        """Called by httptools at the end of a response."""
        if self._tag is None:
            raise WireError("a response to no request")
        code = self._parser.get_status_code()
        self._answers.append((self._tag, OK if 200 <= code < 300 else code))
        self._tag = None
        if not self._parser.should_keep_alive():
            self.farewell = "the server closes connections"

    def lose(self) -> list[Answer]:
        lost = [] if self._tag is None else [(self._tag, UNAVAILABLE)]
        self._tag = None
        self.farewell = "connection lost"
        return lost
