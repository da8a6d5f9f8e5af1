"""What members of a consumer group serve is sampled as elsewhere, and compared with the topic beside them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from engine import FeatureView, VireoError, parse_spec, probe_skew
from tests.engine.features.running import START_US, VIEW, Running, row, running
from tests.engine.log.broker import tansu

pytest.importorskip("confluent_kafka")
CARDS = tuple(f"c{number}" for number in range(24))
S = 1_000_000


def _spec(address: str, topic: str, member: str) -> str:
    view = VIEW.rstrip().replace("    event_id: id\n", "").replace("dead.jsonl", f"{member}.jsonl")
    return (
        "logs:\n  tx:\n    schema: {card: string, at: timestamp, id: string, amount: float64, shop: string}\n"
        f"    kafka: {{bootstrap_servers: '{address}', topic: {topic}, key: card, group: g, format: json,\n"
        "            settings: {session.timeout.ms: '6000', heartbeat.interval.ms: '500'}}\n"
        f"feature_views:{view}\n    sample: {{path: {member}.parquet}}\n"
    )


def _until(holds: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(1200):
        if holds():
            return
        pause.wait(0.05)
    raise AssertionError("it did not come to be")


def _held(view: FeatureView) -> dict[str, float]:
    try:
        found = view.lookup(pa.array(CARDS), as_of_us=START_US + 1000 * S, features=["n"])
    except VireoError:  # amid a rebalance
        return {}
    return {card: value for card, value in zip(CARDS, found.values[:, 0].tolist(), strict=True) if value == value}


def _push(engine: Running, first: int) -> None:
    features = engine.engine.features
    rows = [row(n, CARDS[n % len(CARDS)], at_s=n - (n * 37) % 50) for n in range(first, first + 240)]
    features.push("tx", pa.RecordBatch.from_pylist(rows, schema=features.schema("tx")))


def _serve(view: FeatureView) -> None:
    """Reads of what the member holds, as of instants before and after what its partitions have seen. All else is forgotten:
    of others' cards it truly knows nothing."""
    held = pa.array(list(_held(view)))
    view.forget_sampled()
    for second in range(-100, 2000, 50):
        view.lookup(held, as_of_us=START_US + second * S, request={"now_amount": pa.array([5.0] * len(held))})


def test_what_members_of_a_group_serve_has_no_skew(tmp_path: Path) -> None:
    with tansu() as broker:
        topic = broker.topic(4)
        one, two = (_spec(broker.address, topic, member) for member in ("one", "two"))
        with running(tmp_path, one) as first:
            _push(first, 0)
            _until(lambda: sum(_held(first.view()).values()) == 240)
            with running(tmp_path, two) as second:
                _until(lambda: 0 < len(_held(second.view())) < 24 and 0 < len(_held(first.view())) < 24)
                _push(second, 240)
                _until(lambda: sum({**_held(first.view()), **_held(second.view())}.values()) == 480)
                _serve(second.view())
                _serve(first.view())
        for spec in (one, two):
            probe = probe_skew(parse_spec(spec, folder=tmp_path), "spending", settle_us=0)
            assert {name: skew.examples for name, skew in probe.report.features.items() if skew.mismatched} == {}
            assert probe.report.rows > 40 * 4
