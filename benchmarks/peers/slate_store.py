"""Fills Redis with the shop that the glued pipeline recommends from: vectors and filters under the search module's index, rows of
numbers packed. Runs in the environment `redis-stack`.

The order: `port` and either what is asked (`queries`, .npz: vector [n, d], region [n], seen [n, s], 0: none; `ef`, `k`, `found`:
the .npy to write, int64 [n, k], -1: none) or what is filled in: `catalogue` (.npz: features [n, f], vector [n, d], category [n],
stock [n], regions [n], of items 1 to n) and `users` (.npz: user [m], row [m, u]).

An item is a hash `i:NUMBER` with its vector `v`, region tags `g`, stock tag `s` and packed row `r` (features, vector, category:
float32), and the same row under `p:NUMBER`; a user is a packed row under `u:NUMBER`.
"""

# mypy: disable-error-code="import-not-found"

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parent))  # -I leaves it out
from redis_vectors import CONNECTIVITY, EF_BUILD, POLL_S, Connection, hiredis

INDEX = "items"
BATCH = 1_000


def create(connection: Connection, size: int, rows: int) -> None:
    """HNSW by inner product beside the filters' tags."""
    parameters = (
        "TYPE", "FLOAT32", "DIM", size, "DISTANCE_METRIC", "IP", "M", CONNECTIVITY, "EF_CONSTRUCTION", EF_BUILD,
        "INITIAL_CAP", rows,
    )  # fmt: skip
    connection.call(
        "FT.CREATE", INDEX, "ON", "HASH", "PREFIX", 1, "i:", "SCHEMA", "v", "VECTOR", "HNSW", len(parameters), *parameters,
        "g", "TAG", "SEPARATOR", ",", "s", "TAG",
    )  # fmt: skip


def send(connection: Connection, commands: list[bytes]) -> None:
    """A pipeline."""
    connection.socket.sendall(b"".join(commands))
    for _ in commands:
        connection.answer()


def tags_of(mask: int) -> str:
    """Regions as tags."""
    return ",".join(f"r{at}" for at in range(mask.bit_length()) if mask >> at & 1)


def fill_items(connection: Connection, catalogue: Any) -> None:  # noqa: ANN401 - numpy's archive
    """All of them, indexed when it returns."""
    vectors, stock = catalogue["vector"], (catalogue["stock"] > 0).astype(int).tolist()
    rows = np.hstack([catalogue["features"], vectors, catalogue["category"][:, None]]).astype("<f4")
    regions = [tags_of(each) for each in catalogue["regions"].tolist()]
    create(connection, vectors.shape[1], len(vectors))
    for begin in range(0, len(vectors), BATCH):
        commands = []
        for at in range(begin, min(begin + BATCH, len(vectors))):
            row, number = rows[at].tobytes(), at + 1
            words = (f"i:{number}", "v", vectors[at].tobytes(), "g", regions[at], "s", stock[at], "r", row)
            commands += [hiredis.pack_command(("HSET", *words)), hiredis.pack_command(("SET", f"p:{number}", row))]
        send(connection, commands)
    while True:
        told = connection.call("FT.INFO", INDEX)
        info = dict(zip(told[::2], told[1::2], strict=True))
        if int(info[b"num_docs"]) == len(vectors) and not int(info[b"indexing"]):
            return
        time.sleep(POLL_S)


def search_words(vector: Any, region: int, *, k: int, ef: int, with_rows: bool) -> list[str | bytes]:  # noqa: ANN401
    """The command for the nearest that are in stock and sold in the region, the best first."""
    asked = f"(@s:{{1}} @g:{{r{region}}})=>[KNN {k} @v $q EF_RUNTIME {ef} AS d]"
    given = ["RETURN", "1", "r"] if with_rows else ["NOCONTENT"]
    return [
        "FT.SEARCH", INDEX, asked, "PARAMS", "2", "q", vector.tobytes(), *given, "SORTBY", "d", "LIMIT", "0", str(k),
        "DIALECT", "2",
    ]  # fmt: skip


def find(order: dict[str, Any]) -> None:
    """What each query finds that was not seen."""
    connection, k, found = Connection(order["port"]), order["k"], []
    with np.load(order["queries"]) as queries:
        for vector, region, row in zip(
            queries["vector"], queries["region"].tolist(), queries["seen"].tolist(), strict=True
        ):
            seen = {each for each in row if each}
            words = search_words(vector, region, k=k + len(seen), ef=order["ef"], with_rows=False)
            numbers = [int(key[2:]) for key in connection.call(*words)[1:]]
            found.append(([each for each in numbers if each not in seen] + [-1] * k)[:k])
    np.save(order["found"], np.array(found, np.int64))


def fill(order: dict[str, Any]) -> None:
    """Fill, and tell how long it took."""
    connection, began_s = Connection(order["port"]), time.perf_counter()
    with np.load(order["catalogue"]) as catalogue:
        fill_items(connection, catalogue)
    with np.load(order["users"]) as users:
        rows = users["row"].astype("<f4")
        pairs = zip(users["user"].tolist(), rows, strict=True)
        send(connection, [hiredis.pack_command(("SET", f"u:{user}", row.tobytes())) for user, row in pairs])
    print(json.dumps({"took_s": time.perf_counter() - began_s}))


if __name__ == "__main__":
    given = json.load(sys.stdin)
    if "queries" in given:
        find(given)
        print("{}")
    else:
        fill(given)
