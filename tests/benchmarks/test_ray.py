"""What the benchmark of the Ray host concludes from figures."""

from benchmarks.bench_ray import ALL_FOUR, CALLERS, COLOCATED, ECHO, ECHO_HOP, EMBEDDED, HOP, RayData, judgements_of
from benchmarks.shards_killed import Killed
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


def test_a_thousandth_of_the_calls_may_fail_where_replicas_are_killed_and_no_write_be_lost() -> None:
    found = data(hop_ms=1.1)
    fine = RayData(found.turns, {}, Killed(calls=2_000, failures=["x"] * 2, acknowledged=100, back_s=[3.0]))
    assert [(each.kept, each.said) for each in judgements_of(fine)[-2:]] == [(True, "2 of 2000"), (True, "0 of 100")]
    bad = RayData(found.turns, {}, Killed(calls=2_000, failures=["x"] * 3, acknowledged=100, lost=1))
    assert [each.kept for each in judgements_of(bad)[-2:]] == [False, False]


def test_what_a_cluster_spends_idle_is_taken_off_by_the_time_of_a_request() -> None:
    found = data(hop_ms=1.1, colocated_ms=0.22)
    rate = found.of(COLOCATED, 16)[0].rate_per_s
    idle = {ALL_FOUR: 10e-6 * rate}  # 10 us a request
    assert abs(RayData(found.turns, idle).without_idle(16) - 210 / 200) < 1e-6
