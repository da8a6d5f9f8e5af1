"""Callers over HTTP/1.1: inference as JSON and as binary tensors, deadlines, leaving in mid-call; and who reads the rest."""

import gzip
import json
import socket
import struct
import time
from http.client import HTTPConnection, HTTPResponse

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.soak.grpc_callers import LATE, PATIENCE_S, RENEWAL
from benchmarks.soak.http_form import HEADER_LENGTH, Body, binary_body, json_body, judge_body, path_of
from benchmarks.soak.outcome import WRONG, Outcome
from benchmarks.soak.questions import Question, Questions

JSON_BYTES_MAX = 1 << 14
"""More than this as JSON costs the client more than the server."""

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends RST, not FIN."""


class HttpCaller:
    """What callers over HTTP/1.1 share: a connection that is opened when it is needed."""

    def __init__(self, port: int, questions: Questions) -> None:
        self.questions = questions
        self.rng = questions.rng
        self._connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)

    def close(self) -> None:
        """Leaves."""
        self._connection.close()

    def renew_sometimes(self) -> None:
        """Leaves, and comes back with the next call."""
        if self.rng.random() < RENEWAL:
            self._connection.close()

    def get(self, path: str, accept: str = "*/*") -> tuple[int, bytes]:
        """Status and body."""
        self._connection.request("GET", path, headers={"Accept": accept})
        response = self._connection.getresponse()
        return response.status, response.read()

    def post(self, path: str, body: Body) -> HTTPResponse:
        """The answer's head; its body is still to be read."""
        self._connection.request("POST", path, body.content, body.headers)
        return self._connection.getresponse()

    def begin(self, path: str, body: Body) -> None:
        """Posts, and does not wait for the answer."""
        self._connection.request("POST", path, body.content, body.headers)

    def vanish(self) -> None:
        """Closes the connection, by RST every other time."""
        sock = self._connection.sock
        if sock is not None and self.rng.random() < 0.5:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._connection.close()


class Poster(HttpCaller):
    """Asks by HTTP."""

    def act(self) -> Outcome:
        """One question: mostly with patience, sometimes with a deadline, sometimes leaving without the answer."""
        self.renew_sometimes()
        return self.rng.choices([self._ask, self._hurry, self._leave], [8, 1, 1])[0]()

    def _ask(self) -> Outcome:
        question = self.questions.any()
        return self._judged(question, self.post(path_of(question), self._body(question)))

    def _body(self, question: Question) -> Body:
        bytes_size = max(each.array.nbytes for each in (*question.inputs.values(), question.expected))
        as_json = bytes_size <= JSON_BYTES_MAX and self.rng.random() < 0.5
        body = json_body(question) if as_json else binary_body(question)
        if self.rng.random() < 0.1:
            packed = gzip.compress(body.content, 1)
            return Body(packed, {**body.headers, "Content-Encoding": "gzip"})
        return body

    def _judged(self, question: Question, response: HTTPResponse, allowed: frozenset[str] = frozenset()) -> Outcome:
        content = response.read()
        if response.status != 200:
            return refused(response.status, content, allowed)
        header_bytes = response.getheader(HEADER_LENGTH)
        return judge_body(question, content, None if header_bytes is None else int(header_bytes))

    def _hurry(self) -> Outcome:
        question = self.questions.slow(self.rng.randint(20, 100))
        body = binary_body(question)
        timed = Body(body.content, {**body.headers, "X-Request-Timeout-Ms": str(self.rng.randint(1, 30))})
        return self._judged(question, self.post(path_of(question), timed), LATE)

    def _leave(self) -> Outcome:
        question = self.rng.choice([self.questions.slow, self.questions.negate, self.questions.fill])()
        self.begin(path_of(question), binary_body(question))
        time.sleep(self.rng.uniform(0, 0.03))
        self.vanish()
        return Outcome("left", True)


def refused(status: int, content: bytes, allowed: frozenset[str]) -> Outcome:
    """What an error says: its code where it has one."""
    try:
        kind = str(json.loads(content)["code"])
    except (ValueError, KeyError, TypeError):
        kind = f"HTTP {status}"
    return Outcome(kind, kind in allowed, f"{status}: {content[:200]!r}")


class Reader(HttpCaller):
    """Reads metrics, probes, statistics and descriptions."""

    PATHS = (
        "/v2",
        "/v2/models/fraud",
        "/v2/models/stats",
        "/v2/models/fraud/config",
        "/livez",
        "/openapi.json",
        "/docs",
    )

    def act(self) -> Outcome:
        """One reading."""
        self.renew_sometimes()
        if self.rng.random() < 0.3:
            return self._metrics()
        if self.rng.random() < 0.2:
            status, content = self.get("/readyz")  # 503 while a model is being loaded
            return Outcome(str(status), status in (200, 503), content.decode())
        path = self.rng.choice(self.PATHS)
        status, content = self.get(path)
        return Outcome(str(status), status == 200 and bool(content), f"{path}: {content[:200]!r}")

    def _metrics(self) -> Outcome:
        status, content = self.get("/metrics")
        names = {each.name for each in text_string_to_metric_families(content.decode())}
        right = status == 200 and "vireo_calls" in names
        return Outcome(str(status) if right else WRONG, right, f"{status}: {sorted(names)}")
