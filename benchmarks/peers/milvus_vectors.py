"""Loads vectors into milvus-lite until all is indexed, then single ones, each looked for by the next search. Runs in the
environment `milvus`. It answers a write before that is on the disk.

The order: `vectors` (.npy), `singles` of them written one by one, `batch` points a call otherwise, `folder`.
"""

import json
import sys
import time
from importlib import import_module
from typing import Any

import numpy as np

NAME = "points"
CONNECTIVITY, EF_BUILD, EF = 16, 200, 64


def main() -> None:
    """Load, index, write, tell."""
    order = json.load(sys.stdin)
    vectors = np.load(order["vectors"])
    bulk = len(vectors) - order["singles"]
    pymilvus: Any = import_module("pymilvus")
    client = pymilvus.MilvusClient(f"{order['folder']}/milvus.db")
    client.create_collection(NAME, dimension=vectors.shape[1], metric_type="COSINE", auto_id=False)
    client.release_collection(NAME)
    client.drop_index(NAME, "vector")
    began_s, cpu_s = time.perf_counter(), time.process_time()
    for start in range(0, bulk, order["batch"]):
        rows = range(start, min(start + order["batch"], bulk))
        client.insert(NAME, [{"id": row, "vector": vectors[row]} for row in rows])
    durable_s = time.perf_counter() - began_s
    index = client.prepare_index_params()
    index.add_index(
        "vector", index_type="HNSW", metric_type="COSINE", params={"M": CONNECTIVITY, "efConstruction": EF_BUILD}
    )
    client.create_index(NAME, index)
    client.load_collection(NAME)
    ready_s, ready_cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    took, seen = [], 0
    for row in range(bulk, len(vectors)):
        began = time.perf_counter_ns()
        client.upsert(NAME, [{"id": row, "vector": vectors[row]}])
        took.append((time.perf_counter_ns() - began) / 1e3)
        found = client.search(NAME, [vectors[row]], limit=1, search_params={"params": {"ef": EF}})
        seen += bool(found[0]) and found[0][0]["id"] == row
    client.close()
    told = {"durable_s": durable_s, "ready_s": ready_s, "ready_cpu_s": ready_cpu_s, "points": bulk}
    print(json.dumps({**told, "took_us": took, "seen": seen}))


if __name__ == "__main__":
    main()
