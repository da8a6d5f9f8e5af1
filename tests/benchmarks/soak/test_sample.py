"""Readings of a process and of its metrics."""

import os

from benchmarks.soak.sample import Memory, gauges_of, mean_of, state_of, status_of

METRICS = """
# TYPE vireo_queue_requests gauge
vireo_queue_requests{model="a",version="1"} 2.0
vireo_queue_requests{model="b",version="3"} 5.0
# TYPE vireo_connections gauge
vireo_connections{protocol="http2"} 4.0
vireo_connections{protocol="http1"} 1.0
vireo_connections{protocol="unknown"} 0.0
# TYPE vireo_streams gauge
vireo_streams 7.0
# TYPE vireo_ready gauge
vireo_ready 1.0
"""


def test_gauges_are_summed_over_models_and_the_readers_own_connection_is_left_out() -> None:
    assert gauges_of(METRICS) == {
        "vireo_queue_requests": 7.0,
        "vireo_connections http2": 4.0,
        "vireo_connections http1": 0.0,
        "vireo_connections unknown": 0.0,
        "vireo_streams": 7.0,
    }


def test_what_a_transport_cannot_tell_is_no_gauge() -> None:
    grpcio = "\n".join(
        line for line in METRICS.splitlines() if "http2" not in line and "unknown" not in line and "streams" not in line
    )
    assert set(gauges_of(grpcio)) == {"vireo_queue_requests", "vireo_connections http1"}


def test_memory_of_a_sample_is_the_mean_of_its_readings() -> None:
    readings = [Memory(each, 2 * each) for each in (5, 9, 4, 6, 7)]
    assert mean_of(readings) == Memory(6, 12)


def test_status_of_a_process_has_its_memory_and_threads() -> None:
    status = status_of(os.getpid())
    assert status["VmRSS"] >= status["RssAnon"] > 1000
    assert status["Threads"] >= 1
    assert state_of(os.getpid()).endswith("(running)")
