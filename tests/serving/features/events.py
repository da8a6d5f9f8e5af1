"""The logs and views that the tests of features share, and what they send."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pyarrow as pa

SPEC = """
server: {grpc_port: 0, http_port: 0, flight_port: 0}
repository: {path: models}
logs:
  payments:
    schema:
      card: {type: int64, nullable: false}
      merchant: string
      amount: float64
      at: timestamp
    local: {path: payments, durability: os}
  everything:
    schema: {b: bool, i8: int8, u64: uint64, f32: float32, f64: float64, s: string, y: binary, t: timestamp, d: date}
    local: {path: everything, durability: os}
feature_views:
  card:
    source: payments
    entity: card
    event_time: at
    max_age: 1h
    ttl: 30d
    request: {amount_now: number}
    features:
      payments_1h: {aggregation: count, window: 1h}
      amount_1h: {aggregation: sum, column: amount, window: 1h}
      amount_mean: {aggregation: mean, column: amount, window: 1h}
      last_merchant: {aggregation: last, column: merchant}
      excess: {expression: amount_now - amount_mean}
  merchant:
    source: payments
    entity: merchant
    event_time: at
    features:
      payments_1h: {aggregation: count, window: 1h}
"""
CARD_FEATURES = ["payments_1h", "amount_1h", "amount_mean", "last_merchant", "excess"]
Stub = Any
"""A generated `FeaturesStub`; grpcio's stubs have no types."""
ARROW = "application/vnd.apache.arrow.stream"


def payments(*rows: tuple[int, str | None, float | None, int]) -> pa.RecordBatch:
    """Events of log `payments`: card, merchant, amount, microseconds."""
    cards, merchants, amounts, times = zip(*rows, strict=True)
    return pa.record_batch(
        {
            "card": pa.array(cards, pa.int64()),
            "merchant": pa.array(merchants, pa.string()),
            "amount": pa.array(amounts, pa.float64()),
            "at": pa.array(times, pa.timestamp("us", "UTC")),
        }
    )


def as_stream(*batches: pa.RecordBatch, schema: pa.Schema | None = None) -> bytes:
    """Batches as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema or batches[0].schema) as writer:
        for each in batches:
            writer.write_batch(each)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def iso(at_us: int) -> str:
    """Microseconds as ISO 8601."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat()


@contextmanager
def refused_http(status: int, *words: str) -> Iterator[list[httpx.Response]]:
    """The one response put into the list has this status, and its message every one of `words`."""
    put: list[httpx.Response] = []
    yield put
    (response,) = put
    assert response.status_code == status, response.text
    for word in words:
        assert word in response.json()["error"], f"{word!r} is not in {response.json()['error']!r}"
