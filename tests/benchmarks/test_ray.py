"""What the benchmark of the Ray host concludes from figures."""

from benchmarks.bench_ray import CALLERS, COLOCATED, ECHO, ECHO_HOP, EMBEDDED, HOP, RayData, judgements_of
from tests.benchmarks.test_wire_report import turn


def data(*, hop_ms: float, colocated_ms: float = 0.21, plain_ms: float = 1.0) -> RayData:
    costs = {EMBEDDED: 0.2, COLOCATED: colocated_ms, HOP: colocated_ms + hop_ms, ECHO: 0.4, ECHO_HOP: 0.4 + plain_ms}
    turns = [
        turn(name, callers=callers, p50_ms=each, cpu_us=each * 1e3)
        for name, each in costs.items()
        for callers in CALLERS
    ]
    return RayData(turns, {})


def test_hops_are_compared_by_what_they_add_and_replicas_by_what_they_take() -> None:
    kept = judgements_of(data(hop_ms=1.1))
    assert [(each.kept, each.said) for each in kept] == [
        (True, "0 failed"),
        *[(True, "1.05")] * 3,
        *[(True, "1.10")] * 3,
    ]
    broken = judgements_of(data(hop_ms=1.3, colocated_ms=0.25))
    assert [(each.kept, each.said) for each in broken[1:]] == [(False, "1.25")] * 3 + [(False, "1.30")] * 3


def test_nothing_is_concluded_where_the_plain_hop_costs_nothing() -> None:
    found = data(hop_ms=1.1, plain_ms=-0.1)
    assert [each.kept for each in judgements_of(found)] == [True] * 4 + [None] * 3
