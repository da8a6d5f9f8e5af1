"""The soak's own parts that need no server: its app, its callers, its scraps, its log reader."""

from pathlib import Path
from random import Random

import pytest
import yaml

from benchmarks.bench_soak import SAMPLE_S_MAX, SAMPLES_MIN, complaints_of, sample_s, settled
from benchmarks.soak.load import COUNTS, SoakOrder, places
from benchmarks.soak.sample import Memory, Sample
from benchmarks.soak.served import spec
from benchmarks.soak.vanishing import PREFACE, SCRAPS, frame
from engine import parse_spec


@pytest.mark.parametrize("transport", ["native", "grpcio"])
def test_app_is_a_valid_spec(transport: str, tmp_path: Path) -> None:
    parsed = parse_spec(yaml.safe_dump(spec(tmp_path, 1, 2, transport)), folder=tmp_path)
    assert parsed.server.transport == transport
    assert set(parsed.functions) == {"negate", "fill", "slow", "shout", "countdown", "refuse"}


@pytest.mark.parametrize(("transport", "left_out"), [("native", set()), ("grpcio", {"http2"})])
def test_every_caller_comes_that_the_transport_serves(transport: str, left_out: set[str]) -> None:
    order = SoakOrder(grpc_port=1, http_port=2, transport=transport, seconds=1, seed=1, inputs="")
    found = [each.name for each in places(order)]
    assert {name: found.count(name) for name in set(found)} == {
        name: count for name, count in COUNTS.items() if name not in left_out
    }


@pytest.mark.parametrize("scrap", SCRAPS, ids=lambda scrap: scrap.__name__)
def test_scraps_are_the_same_for_the_same_seed(scrap: object) -> None:
    assert callable(scrap)
    for seed in range(20):
        assert scrap(Random(seed)) == scrap(Random(seed))


def test_frame_has_the_layout_of_http2() -> None:
    assert frame(1, 4, 3, b"abc") == b"\x00\x00\x03\x01\x04\x00\x00\x00\x03abc"
    assert len(PREFACE) == 24


def test_readings_come_often_enough_in_a_short_run() -> None:
    assert sample_s(60) * SAMPLES_MIN == 60
    assert sample_s(1200) == sample_s(100_000) == SAMPLE_S_MAX


def test_complaints_are_found_in_a_log() -> None:
    log = (
        "12:00 INFO vireo: ready\n12:01 ERROR asyncio: Task exception was never retrieved\nTraceback (most recent...\n"
    )
    assert len(complaints_of(log)) == 2
    assert complaints_of("12:00 INFO vireo.control: model a is unloaded\n") == []


def test_reading_at_rest_is_the_first_with_nothing_open() -> None:
    readings = [
        Sample(number, Memory(1, 1), 1, 1, {"streams": streams}) for number, streams in enumerate((2.0, 0.0, 1.0))
    ]
    rest = settled(iter(readings).__next__)
    assert rest.at_s == 1
