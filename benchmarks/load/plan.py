"""What a run is, all of it known before its first request: when, from where, what is sent. Pure."""

from dataclasses import dataclass

import numpy as np

from benchmarks.load.headers import request_block
from benchmarks.load.order import LoadOrder, Protocol
from benchmarks.load.samples import Instants
from benchmarks.load.schedule import NS_PER_S, poisson_offsets_ns

LEAD_NS = 100_000_000
"""From the first connection to the first request, so that greetings are over."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The instants of one run on the monotonic clock; `due_ns`, ascending, is empty for a closed loop."""

    start_ns: int
    begin_ns: int
    end_ns: int
    due_ns: Instants


def plan_of(order: LoadOrder, now_ns: int) -> Plan:
    """The plan of a run whose connections stand at `now_ns`; the same seed gives the same gaps."""
    start_ns = now_ns + LEAD_NS
    begin_ns = start_ns + int(order.warmup_s * NS_PER_S)
    end_ns = begin_ns + int(order.duration_s * NS_PER_S)
    offsets = np.empty(0, np.int64)
    if order.rate_per_s is not None:
        whole_s = order.warmup_s + order.duration_s
        offsets = poisson_offsets_ns(rate_per_s=order.rate_per_s, duration_s=whole_s, seed=order.seed)
    return Plan(start_ns, begin_ns, end_ns, start_ns + offsets)


def connections_of(order: LoadOrder) -> int:
    """HTTP/1.1 needs a connection for each caller; over HTTP/2 callers share."""
    if order.callers is None:
        return order.connections
    return order.callers if order.protocol is Protocol.HTTP else min(order.callers, order.connections)


def authority_of(order: LoadOrder) -> str:
    """Whom the requests address."""
    return f"{order.host}:{order.port}"


def block_of(order: LoadOrder) -> bytes:
    """The header block of every gRPC call of a run."""
    extra = () if order.timeout_ms is None else (("grpc-timeout", f"{order.timeout_ms}m"),)
    return request_block(path=order.path, authority=authority_of(order), extra=extra)
