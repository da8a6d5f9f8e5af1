"""The verdict: a generator that was not good enough is named before the server is judged."""

import pytest

from benchmarks.load.verdict import EXIT_CODES, Facts, Target, Verdict, judge, lateness_bound_ms

TARGET = Target(latency_ms=100.0)


def facts(
    samples: int = 5000, latency_ms: float | None = 20.0, goodput: float = 1.0, late_ms: float = 0.0, cpu: float = 0.3
) -> Facts:
    return Facts(samples, latency_ms, goodput, late_ms, cpu)


def test_good_run_meets_its_target() -> None:
    assert judge(facts(), TARGET).verdict is Verdict.MET


def test_run_without_target_is_only_measured() -> None:
    assert judge(facts(), None).verdict is Verdict.MEASURED


@pytest.mark.parametrize("bad", [facts(latency_ms=100.1), facts(goodput=0.998), facts(latency_ms=None)])
def test_slow_or_failing_server_misses(bad: Facts) -> None:
    assert judge(bad, TARGET).verdict is Verdict.MISSED


@pytest.mark.parametrize("late", [facts(late_ms=1.01), facts(cpu=0.91), facts(late_ms=0.3, latency_ms=2.0)])
def test_late_generator_is_refused_whatever_the_server_did(late: Facts) -> None:
    for target in (TARGET, None, Target(0.001)):
        judgement = judge(late, target)
        assert judgement.verdict is Verdict.LATE
        assert EXIT_CODES[judgement.verdict] == 3


def test_too_few_samples_are_refused() -> None:
    assert judge(facts(samples=999), TARGET).verdict is Verdict.FEW
    assert judge(facts(samples=1000), Target(100.0, 99.9)).verdict is Verdict.FEW


@pytest.mark.parametrize(("latency_ms", "bound_ms"), [(0.2, 0.1), (5.0, 0.5), (50.0, 1.0), (None, 1.0)])
def test_lateness_bound_is_a_tenth_of_the_latency_within_limits(latency_ms: float | None, bound_ms: float) -> None:
    assert lateness_bound_ms(latency_ms) == pytest.approx(bound_ms)
