"""Streaming features: events in, windows out, beside the systems that people use for it.

Parts, each of which can be run alone with --only:

    ingest      events from memory into windows on one core, beside polars and DuckDB
    memory      bytes a hot and an idle entity takes
    log         through the local log, fsync before every acknowledgement
    reads       1 entity x 20 features and 100 x 50 in process, beside Feast's SDK on sqlite and on Redis
    gather      500 candidates x 100 numbers and 100 x 50 into a ranker's buffer, beside redis-py and Feast's SDK on Redis
    wire        the same as reads over gRPC beside an empty call to the same server
    freshness   acknowledged to visible, local log and Kafka
    contention  reads while events are folded at half of the peak; no torn read of a hot key
    kafka       a full topic end to end, JSON and Arrow, beside Quix Streams on the same broker
    crash       kill -9 at random points, with torn and short writes
    restart     a million entities, from kill -9 to the first read
    fraud       what windows and delayed labels, as feature views, are worth to the fraud model

Each part runs ours and its rivals in processes of their own, pinned: what is measured to core 0, whatever feeds it to core
1. Rates are by CPU time where one core does all the work, since machines are shared; ratios are within one run.

    python -m benchmarks.peers.environments install                    # once: the rivals; those missing are left out
    python -m benchmarks features --out .cache/bench                   # some forty minutes
    python -m benchmarks features --only ingest,reads --quick          # a minute or two
"""

import sys

from benchmarks.command import run_command
from benchmarks.parts import Parts

PARTS = Parts(
    "features",
    "streaming features: ingest, reads, freshness, memory, crashes, and what they are worth",
    (
        "ingest", "memory", "log", "reads", "gather", "wire", "freshness", "contention", "kafka", "crash", "restart", "fraud",
    ),
    "features-data",  # of event files, some gigabytes, that later runs take again
)  # fmt: skip


if __name__ == "__main__":
    sys.exit(run_command(PARTS.run, __doc__))
