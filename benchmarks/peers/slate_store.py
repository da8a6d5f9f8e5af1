"""Fills Redis with the shop that the glued pipeline recommends from: vectors and filters under the search module's index, rows of
numbers packed. Runs in the environment `redis-stack`.

The order: `port` and either what is asked (`queries`, .npz: vector [n, d], region [n], seen [n, s], 0: none; `search`, `ef`, `k`,
`found`: the .npy to write, int64 [n, k], -1: none) or what is filled in: `search`, `catalogue` (.npz: features [n, f], vector
[n, d], category [n], stock [n], regions [n], of items 1 to n) and `users` (.npz: user [m], row [m, u]).

An item is a hash `i:NUMBER` with its vector `v`, region tags `g`, stock tag `s` and packed row `r` (features, vector, category,
and where it is offered, as bits of regions, none where it is out of stock: float32), and the same row under `p:NUMBER`; a user is
a packed row under `u:NUMBER`.

`search`: "distance": vectors have a number more, by which all are as long as the longest, so that the nearest of them to
(query, 0) are those of the greatest inner product with the query (Bachrach et al., "Speeding up the Xbox recommender system",
RecSys 2014); of the `ef` nearest those are kept that are offered in the region, since a search that filters takes twice as long.
"product": inner products, in a graph that is made for distances, and filters within the search.
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
DISTANCE, PRODUCT = "distance", "product"


def create(connection: Connection, size: int, rows: int, search: str) -> None:
    """HNSW, where the search filters beside tags."""
    parameters = (
        "TYPE", "FLOAT32", "DIM", size, "DISTANCE_METRIC", "L2" if search == DISTANCE else "IP", "M", CONNECTIVITY,
        "EF_CONSTRUCTION", EF_BUILD, "INITIAL_CAP", rows,
    )  # fmt: skip
    tags = ("g", "TAG", "SEPARATOR", ",", "s", "TAG") if search == PRODUCT else ()
    connection.call(
        "FT.CREATE", INDEX, "ON", "HASH", "PREFIX", 1, "i:", "SCHEMA", "v", "VECTOR", "HNSW", len(parameters), *parameters, *tags
    )  # fmt: skip


def evened(vectors: Any) -> Any:  # noqa: ANN401
    """With a number more, all of them as long as the longest."""
    squares = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    return np.hstack([vectors, np.sqrt(squares.max() - squares)[:, None]]).astype("<f4")


def send(connection: Connection, commands: list[bytes]) -> None:
    """A pipeline."""
    connection.socket.sendall(b"".join(commands))
    for _ in commands:
        connection.answer()


def tags_of(mask: int) -> str:
    """Regions as tags."""
    return ",".join(f"r{at}" for at in range(mask.bit_length()) if mask >> at & 1)


def fill_items(connection: Connection, catalogue: Any, search: str) -> None:  # noqa: ANN401 - numpy's archive
    """All of them, indexed when it returns."""
    vectors, stock = catalogue["vector"], (catalogue["stock"] > 0).astype(int)
    offered = stock * catalogue["regions"]
    assert offered.max() < 1 << 24, "a float32 holds no more bits"
    rows = np.hstack([catalogue["features"], vectors, catalogue["category"][:, None], offered[:, None]]).astype("<f4")
    regions = [tags_of(each) for each in catalogue["regions"].tolist()]
    create(connection, vectors.shape[1] + (search == DISTANCE), len(vectors), search)
    if search == DISTANCE:
        vectors = evened(vectors)
    for begin in range(0, len(vectors), BATCH):
        commands = []
        for at in range(begin, min(begin + BATCH, len(vectors))):
            row, number = rows[at].tobytes(), at + 1
            words = (f"i:{number}", "v", vectors[at].tobytes(), "g", regions[at], "s", int(stock[at]), "r", row)
            commands += [hiredis.pack_command(("HSET", *words)), hiredis.pack_command(("SET", f"p:{number}", row))]
        send(connection, commands)
    while True:
        told = connection.call("FT.INFO", INDEX)
        info = dict(zip(told[::2], told[1::2], strict=True))
        if int(info[b"num_docs"]) == len(vectors) and not int(info[b"indexing"]):
            return
        time.sleep(POLL_S)


def search_words(
    vector: Any,  # noqa: ANN401
    region: int,
    *,
    search: str,
    k: int,
    ef: int,
    with_rows: bool,
) -> list[str | bytes]:
    """The command for the best, best first: by "product" the `k` that are in stock and sold in the region, by "distance" `ef` of
    all."""
    filters = "*"
    if search == PRODUCT:
        filters = f"(@s:{{1}} @g:{{r{region}}})"
    else:
        vector, k = np.append(vector, np.float32(0)), ef
    asked = f"{filters}=>[KNN {k} @v $q EF_RUNTIME {ef} AS d]"
    given = ["RETURN", "1", "r"] if with_rows else ["NOCONTENT"]
    query = vector.astype("<f4").tobytes()
    return [
        "FT.SEARCH", INDEX, asked, "PARAMS", "2", "q", query, *given, "SORTBY", "d", "LIMIT", "0", str(k), "DIALECT", "2",
    ]  # fmt: skip


def offered_in(region: int, rows: Any) -> Any:  # noqa: ANN401
    """Which packed rows [n, w] are of items that are in stock and sold in the region."""
    return (rows[:, -1].astype(np.int32) >> region) & 1 == 1


def find(order: dict[str, Any]) -> None:
    """What each query finds that was not seen."""
    connection, k, found = Connection(order["port"]), order["k"], []
    with np.load(order["queries"]) as queries:
        for vector, region, row in zip(
            queries["vector"], queries["region"].tolist(), queries["seen"].tolist(), strict=True
        ):
            seen = {each for each in row if each}
            words = search_words(
                vector, region, search=order["search"], k=k + len(seen), ef=order["ef"], with_rows=False
            )
            numbers = [int(key[2:]) for key in connection.call(*words)[1:]]
            packed = connection.call("MGET", *(f"p:{each}" for each in numbers))
            offered = offered_in(region, np.frombuffer(b"".join(packed), "<f4").reshape(len(numbers), -1))
            kept = [each for each, there in zip(numbers, offered.tolist(), strict=True) if there and each not in seen]
            found.append((kept + [-1] * k)[:k])
    np.save(order["found"], np.array(found, np.int64))


def fill(order: dict[str, Any]) -> None:
    """Fill, and tell how long it took."""
    connection, began_s = Connection(order["port"]), time.perf_counter()
    with np.load(order["catalogue"]) as catalogue:
        fill_items(connection, catalogue, order["search"])
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
