"""Loads vectors into Redis's search module and asks for them, as cheaply as its protocol can be spoken: commands made beforehand,
answers read by hiredis. Runs in the environment `redis-stack`.

The order: `port`; `what`: "load" (`vectors`: .npy; `batch` points a pipeline), "upserts" (`vectors`, numbered from
`first`: one command and one wait each, each looked for at once by a search), "find" (`queries`, `ef`, `k`, `found`: the .npy to
write, int64 [q, k]) or "ask" (`queries`, `ef`, `k`, `callers` connections, each with one query under way, for `warmup_s` and
`seconds`).
"""

import json
import select
import socket
import sys
import time
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

hiredis: Any = import_module("hiredis")
Floats = npt.NDArray[np.float32]
INDEX = "points"
CONNECTIVITY, EF_BUILD = 16, 200
READ_BYTES = 1 << 16
POLL_S = 0.02


class Connection:
    """One connection, one thread."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def answer(self) -> Any:  # noqa: ANN401
        """The next one. Raises RuntimeError for an error."""
        while (found := self._reader.gets()) is False:
            self.feed()
        if isinstance(found, hiredis.ReplyError):
            raise RuntimeError(str(found))
        return found

    def feed(self) -> None:
        """What has come, or comes next."""
        got = self.socket.recv(READ_BYTES)
        if not got:
            raise RuntimeError("the server has closed the connection")
        self._reader.feed(got)

    def complete(self) -> bool:
        """Whether a whole answer was there, which is then gone."""
        self.feed()
        found = self._reader.gets()
        if isinstance(found, hiredis.ReplyError):
            raise RuntimeError(str(found))
        return found is not False

    def call(self, *words: str | bytes | int) -> Any:  # noqa: ANN401
        """One command and its answer."""
        self.socket.sendall(hiredis.pack_command(words))
        return self.answer()


def create(connection: Connection, size: int, rows: int) -> None:
    """The index: HNSW by cosine."""
    parameters = (
        "TYPE", "FLOAT32", "DIM", size, "DISTANCE_METRIC", "COSINE", "M", CONNECTIVITY, "EF_CONSTRUCTION", EF_BUILD,
        "INITIAL_CAP", rows,
    )  # fmt: skip
    connection.call("FT.CREATE", INDEX, "SCHEMA", "v", "VECTOR", "HNSW", len(parameters), *parameters)


def upsert(row: int, vector: Floats) -> bytes:
    """The command."""
    command: bytes = hiredis.pack_command(("HSET", str(row), "v", vector.tobytes()))
    return command


def search(query: Floats, ef: int, k: int) -> bytes:
    """The command for ids and scores, best first."""
    asked = f"*=>[KNN {k} @v $q EF_RUNTIME {ef} AS s]"
    command: bytes = hiredis.pack_command(
        ("FT.SEARCH", INDEX, asked, "PARAMS", "2", "q", query.tobytes(), "RETURN", "1", "s", "SORTBY", "s",
         "LIMIT", "0", str(k), "DIALECT", "2")
    )  # fmt: skip
    return command


def load(order: dict[str, Any]) -> dict[str, Any]:
    """Pipelines of many; indexed when it returns."""
    vectors, connection = np.load(order["vectors"]), Connection(order["port"])
    began_s = time.perf_counter()
    create(connection, vectors.shape[1], len(vectors))
    for start in range(0, len(vectors), order["batch"]):
        rows = range(start, min(start + order["batch"], len(vectors)))
        connection.socket.sendall(b"".join(upsert(row, vectors[row]) for row in rows))
        for _ in rows:
            connection.answer()
    while True:
        told = connection.call("FT.INFO", INDEX)
        info = dict(zip(told[::2], told[1::2], strict=True))
        if int(info[b"num_docs"]) == len(vectors) and not int(info[b"indexing"]):
            return {"took_s": time.perf_counter() - began_s}
        time.sleep(POLL_S)


def upserts(order: dict[str, Any]) -> dict[str, Any]:
    """One after another, microseconds each; how many the next search found."""
    vectors, connection, took, seen = np.load(order["vectors"]), Connection(order["port"]), [], 0
    for row, vector in enumerate(vectors):
        command = upsert(order["first"] + row, vector)
        began = time.perf_counter_ns()
        connection.socket.sendall(command)
        connection.answer()
        took.append((time.perf_counter_ns() - began) / 1e3)
        connection.socket.sendall(search(vector, order["ef"], 1))
        seen += int(connection.answer()[1]) == order["first"] + row
    return {"took_us": took, "seen": seen}


def find(order: dict[str, Any]) -> dict[str, Any]:
    """What all queries find."""
    connection, k = Connection(order["port"]), order["k"]
    found = []
    for query in np.load(order["queries"]):
        connection.socket.sendall(search(query, order["ef"], k))
        rows = [int(each) for each in connection.answer()[1::2]]
        found.append((rows + [-1] * k)[:k])
    np.save(order["found"], np.array(found, np.int64))
    return {}


def ask(order: dict[str, Any]) -> dict[str, Any]:
    """A closed loop: microseconds of each query that was asked after the warm-up; how many were answered from the start on."""
    commands = [search(each, order["ef"], order["k"]) for each in np.load(order["queries"])]
    connections = {}
    poll = select.epoll()
    for _ in range(order["callers"]):
        each = Connection(order["port"])
        connections[each.socket.fileno()] = each
        poll.register(each.socket, select.EPOLLIN)
    clock, at, took, sent = time.perf_counter_ns, 0, [], {}
    begin = clock() + int(order["warmup_s"] * 1e9)
    end = begin + int(order["seconds"] * 1e9)
    for fd, each in connections.items():
        sent[fd] = clock()
        each.socket.sendall(commands[at % len(commands)])
        at += 1
    while (now := clock()) < end:
        for fd, _ in poll.poll(0, len(connections)):  # awake all the time, as our own generator is
            each = connections[fd]
            if not each.complete():
                continue
            now = clock()
            if sent[fd] >= begin:
                took.append((now - sent[fd]) / 1e3)
            sent[fd] = now
            each.socket.sendall(commands[at % len(commands)])
            at += 1
    return {"took_us": took, "answered": at - len(connections)}


if __name__ == "__main__":
    given = json.load(sys.stdin)
    print(json.dumps({"load": load, "upserts": upserts, "find": find, "ask": ask}[given["what"]](given)))
