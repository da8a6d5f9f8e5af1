"""Vector collections: speed beside recall, live, filtered, hybrid, durable, beside bare FAISS, other libraries and databases.

Parts, each of which can be run alone with --only:

    inprocess  117,659 text embeddings of which a fifth was touched: bare FAISS, hnswlib, usearch, zvec
    million    1,000,000 clustered vectors: bare FAISS with inverted lists
    filtered   0.1 to 90% of the points pass, with and against the query's place: bare FAISS, zvec, qdrant-edge
    load       bulk load until all is indexed; single durable upserts: Redis Stack, milvus-lite
    hybrid     labelled WordNet: vectors, words, both fused; tantivy beside exact vectors
    during     searches while a merge runs and 500 upserts a second arrive, beside quiet
    restart    117,659 points, from the start of a process to its first answer
    wire       over gRPC, beside Redis Stack

What is measured is pinned to core 0, whatever asks over the wire to core 1. Queries a second are of CPU on one core, since
machines are shared; ratios are within one run, beside FAISS within one process.

    python -m benchmarks.peers.environments install hnswlib usearch zvec qdrant milvus tantivy redis-stack    # once
    python -m benchmarks vectors --out .cache/bench                     # some forty minutes, and more the first time
    python -m benchmarks vectors --only inprocess,hybrid --quick        # a minute
"""

import sys

from benchmarks.command import run_command
from benchmarks.parts import Parts

PARTS = Parts(
    "vectors",
    "vector collections: speed beside recall, filters, hybrid search, writes, restarts",
    ("inprocess", "million", "filtered", "load", "hybrid", "during", "restart", "wire"),
    "vectors-data",
)


if __name__ == "__main__":
    sys.exit(run_command(PARTS.run, __doc__))
