"""What a server holds at one moment: memory, files and threads by /proc, the rest by its own `/metrics`."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from statistics import fmean

from prometheus_client.parser import text_string_to_metric_families

PROC = Path("/proc")
KIB = 1024
READ_S_MAX = 10.0
CONNECTIONS, READERS_OWN = "vireo_connections", ("http1", 1)
"""Whoever reads the gauges has a connection open, which is left out."""

GAUGES = ("vireo_streams", "vireo_requests_in_flight", "vireo_message_bytes", "vireo_queue_requests")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that are resident, and those of them that are the process's own (not a file's)."""

    resident: int
    anonymous: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading, `at_s` seconds after the load began. `gauges` has only those that the transport can tell."""

    at_s: float
    memory: Memory
    files: int
    threads: int
    gauges: dict[str, float]


def take_sample(pid: int, http_port: int, began_s: float, memory: Sequence[Memory] = ()) -> Sample:
    """Reads everything now; of `memory`, read since the last sample, the mean, for requests in flight make it waver.

    Raises OSError where the server is gone or does not answer.
    """
    status = status_of(pid)
    return Sample(
        at_s=time.monotonic() - began_s,
        memory=mean_of([*memory, memory_of(status)]),
        files=len(list((PROC / str(pid) / "fd").iterdir())),
        threads=status["Threads"],
        gauges=gauges_of(read_metrics(http_port)),
    )


def memory_of(status: dict[str, int]) -> Memory:
    """What /proc/PID/status says of memory."""
    return Memory(status["VmRSS"] * KIB, status["RssAnon"] * KIB)


def mean_of(readings: Sequence[Memory]) -> Memory:
    """The mean of each."""
    resident, anonymous = (fmean(getattr(each, name) for each in readings) for name in ("resident", "anonymous"))
    return Memory(round(resident), round(anonymous))


def status_of(pid: int) -> dict[str, int]:
    """The whole numbers of /proc/PID/status, memory in KiB (proc(5))."""
    lines = (line.split() for line in (PROC / str(pid) / "status").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) > 1 and words[1].isdecimal()}


def state_of(pid: int) -> str:
    """What a process does now, in the words of proc(5): "S (sleeping)", "T (stopped)"."""
    lines = (PROC / str(pid) / "status").read_text().splitlines()
    return next(line.split(maxsplit=1)[1] for line in lines if line.startswith("State:"))


def read_metrics(http_port: int) -> str:
    """The server's `/metrics`, over a connection that is closed again."""
    connection = HTTPConnection("127.0.0.1", http_port, timeout=READ_S_MAX)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def gauges_of(metrics: str) -> dict[str, float]:
    """What must be zero once everybody has left: connections by protocol, and `GAUGES` over all their labels."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(metrics):
        if family.name == CONNECTIONS:
            for each in family.samples:
                found[f"{CONNECTIONS} {each.labels['protocol']}"] = each.value
        elif family.name in GAUGES:
            found[family.name] = sum(each.value for each in family.samples)
    protocol, own = READERS_OWN
    found[f"{CONNECTIONS} {protocol}"] -= own
    return found
