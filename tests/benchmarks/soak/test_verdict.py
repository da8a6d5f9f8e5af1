"""What the soak concludes from readings of a server and from what its callers tell."""

from dataclasses import replace
from random import Random
from statistics import mean, stdev

import pytest

from benchmarks.soak.outcome import LoadOutcome, Row
from benchmarks.soak.sample import Memory, Sample
from benchmarks.soak.verdict import GROWTH_MAX, MIB, End, Trend, after_warmup, judgements_of, paused_s, trend_of

SECONDS = 1200.0
GOOD = LoadOutcome([Row("patient", "OK", 1000, True, []), Row("impatient", "CANCELLED", 10, True, [])], [])


def sample(at_s: float, mib: float = 200.0, **gauges: float) -> Sample:
    return Sample(at_s, Memory(int(mib * MIB), int(mib * MIB / 2)), 20, 12, gauges)


def curve(*mib: float) -> list[Sample]:
    """Readings spread over the whole time."""
    return [sample(SECONDS * number / (len(mib) - 1), each) for number, each in enumerate(mib)]


GONE = End(sample(SECONDS, vireo_streams=0, vireo_message_bytes=0), 20, [], 0)


def verdicts(samples: list[Sample], load: LoadOutcome = GOOD, end: End = GONE) -> dict[str, bool | None]:
    keys = ("memory", "gauges", "files", "answers", "stuck", "log", "exit")
    judged = judgements_of(trend_of(after_warmup(samples, SECONDS)), load, end)
    return {key: each.kept for key, each in zip(keys, judged, strict=True)}


def said(load: LoadOutcome = GOOD, end: End = GONE) -> str:
    return " | ".join(each.said for each in judgements_of(trend_of(curve(*[200.0] * 100)), load, end))


# Memory.


def test_flat_memory_keeps_the_promise() -> None:
    assert set(verdicts(curve(*[200.0] * 100)).values()) == {True}


def test_memory_that_wavers_around_a_level_is_flat() -> None:
    rng = Random(1)
    assert verdicts(curve(*(200 + rng.gauss(0, 20) for _ in range(400))))["memory"]


def test_error_of_the_growth_is_told_and_is_that_of_medians() -> None:
    def trend_by(seed: int) -> Trend:
        rng = Random(seed)
        found = trend_of(curve(*(100 + rng.gauss(0, 1) for _ in range(400))))
        assert found is not None
        return found

    trends = [trend_by(seed) for seed in range(300)]
    assert stdev(each.growth for each in trends) == pytest.approx(mean(each.growth_error for each in trends), rel=0.15)
    assert "(+0.0% with a standard error of 0.0%)" in said()


def test_what_grows_while_the_server_warms_up_does_not_count() -> None:
    assert verdicts(curve(*range(100, 200, 5), *[200] * 80))["memory"]


def test_slow_growth_breaks_the_promise() -> None:
    samples = curve(*(200 + 0.1 * number for number in range(121)))
    trend = trend_of(after_warmup(samples, SECONDS))
    assert trend is not None
    assert trend.slope_per_minute == pytest.approx(0.6)
    assert trend.growth == pytest.approx(0.1 * 72 / 203.55, rel=0.03)
    assert verdicts(samples)["memory"] is False


def test_growth_at_the_bound_is_allowed_and_shrinking_is_no_leak() -> None:
    bound = 100 * (1 + GROWTH_MAX)
    assert verdicts(curve(*[100.0] * 60, *[bound - 0.01] * 40))["memory"]
    assert verdicts(curve(*[100.0] * 60, *[bound + 0.1] * 40))["memory"] is False
    assert verdicts(curve(*[100.0] * 60, *[50.0] * 40))["memory"]


def test_one_peak_is_told_and_forgiven() -> None:
    samples = curve(*[100.0] * 50, 900.0, *[100.0] * 50)
    trend = trend_of(after_warmup(samples, SECONDS))
    assert trend is not None
    assert (trend.most, trend.growth) == (900.0, 0.0)


def test_few_readings_decide_nothing() -> None:
    assert verdicts(curve(*[100.0] * 20))["memory"] is None


def test_growth_in_a_short_run_proves_nothing_but_flatness_does() -> None:
    def judged(*mib: float) -> bool | None:
        samples = [replace(each, at_s=each.at_s / 10) for each in curve(*mib)]
        return judgements_of(trend_of(after_warmup(samples, SECONDS / 10)), GOOD, GONE)[0].kept

    assert judged(*[200.0] * 60, *[220.0] * 60) is None
    assert judged(*[200.0] * 120) is True


def test_readings_after_the_load_has_ended_do_not_count() -> None:
    assert [each.at_s for each in after_warmup([sample(1), sample(240), sample(1200), sample(1201)], SECONDS)] == [
        240,
        1200,
    ]


# A run that was held up.


def test_run_that_was_held_up_decides_nothing_that_time_may_have_spoilt() -> None:
    samples = curve(*[200.0] * 60, *[300.0] * 60)
    held = [replace(each, at_s=each.at_s + 100 * (each.at_s > SECONDS / 2)) for each in samples]
    assert paused_s(samples) == 0.0
    assert paused_s(held) == pytest.approx(100)
    load = LoadOutcome([Row("streams", "DEADLINE_EXCEEDED", 2, False, ["late"])], ["watcher-0"])
    judged = judgements_of(trend_of(after_warmup(samples, SECONDS)), load, GONE, paused_s(held))
    assert [each.kept for each in judged] == [None, True, True, None, None, True, True]
    assert "held up for 100 s" in judged[0].said


def test_what_was_left_behind_is_no_fault_of_a_pause() -> None:
    end = replace(GONE, rest=replace(GONE.rest, gauges={"vireo_streams": 1}))
    assert judgements_of(trend_of(curve(*[200.0] * 100)), GOOD, end, 100.0)[1].kept is False


# The rest.


@pytest.mark.parametrize("gauge", ["vireo_streams", "vireo_message_bytes"])
def test_what_is_left_behind_breaks_the_promise_and_is_named(gauge: str) -> None:
    end = replace(GONE, rest=replace(GONE.rest, gauges={**GONE.rest.gauges, gauge: 3}))
    assert verdicts(curve(*[200.0] * 100), end=end)["gauges"] is False
    assert f"{gauge} 3" in said(end=end)


def test_file_that_stays_open_breaks_the_promise() -> None:
    assert verdicts(curve(*[200.0] * 100), end=replace(GONE, files_before=19))["files"] is False
    assert verdicts(curve(*[200.0] * 100), end=replace(GONE, files_before=21))["files"]


def test_failures_are_told_by_caller_and_kind_with_an_example() -> None:
    load = LoadOutcome([*GOOD.rows, Row("streams", "INTERNAL", 2, False, ["boom", "bang"])], [])
    assert verdicts(curve(*[200.0] * 100), load)["answers"] is False
    assert "streams: 2 INTERNAL (boom and 1 more)" in said(load)


def test_stuck_caller_complaint_and_bad_end_break_their_promises() -> None:
    end = replace(GONE, complaints=["Traceback (most recent call last):"], exit_code=-9)
    kept = verdicts(curve(*[200.0] * 100), replace(GOOD, stuck=["watcher-0"]), end)
    assert [name for name, each in kept.items() if not each] == ["stuck", "log", "exit"]
    assert "watcher-0" in said(replace(GOOD, stuck=["watcher-0"]))
