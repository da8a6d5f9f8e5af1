"""Who counts, for what, from when on; and what a report warns of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine import ExperimentQuestion, ExperimentReport, InvalidArgument, NotFound, VariantResult, experiment_report

S = 1_000_000
EVEN = {"champion": 1.0, "challenger": 1.0}


def exposed(*rows: tuple[str, str | None, int]) -> pa.Table:
    """(variant, key, seconds)."""
    variants, keys, times = zip(*rows, strict=True)
    return pa.table(
        {"variant": pa.array(variants), "key": pa.array(keys, pa.string()), "time": _at(times)}
    )  # fmt: skip


def came(*rows: tuple[str | int, int, float]) -> pa.Table:
    """(key, seconds, value)."""
    keys, times, values = zip(*rows, strict=True)
    return pa.table({"key": pa.array(keys), "time": _at(times), "value": pa.array(values, pa.float64())})


def _at(seconds: Sequence[int]) -> pa.Array:
    return pa.array([each * S for each in seconds], pa.timestamp("us", "UTC"))


FOUR = (("champion", "a", 10), ("champion", "b", 10), ("challenger", "c", 10), ("challenger", "d", 10))


def report(
    exposures: pa.Table,
    outcomes: pa.Table,
    covariate: pa.Table | None = None,
    **asked: Any,  # noqa: ANN401
) -> ExperimentReport:
    return experiment_report("s", exposures, outcomes, ExperimentQuestion(**asked), covariate)


def of(found: ExperimentReport) -> Mapping[str, VariantResult]:
    return {each.name: each for each in found.variants}


def test_users_without_outcomes_count_as_0_and_outcomes_are_added_up() -> None:
    found = report(exposed(*FOUR), came(("a", 11, 2.0), ("a", 12, 4.0), ("c", 11, 1.0), ("d", 10, 3.0)))
    assert (found.champion, of(found)["champion"].mean, of(found)["challenger"].mean) == ("champion", 3.0, 2.0)
    assert [(each.users, each.exposures, each.outcomes) for each in found.variants] == [(2, 2, 2), (2, 2, 2)]
    against = of(found)["challenger"].against
    assert against is not None
    assert [against.difference, against.lift] == pytest.approx([-1.0, -1 / 3])
    assert of(found)["champion"].against is None


def test_outcomes_before_exposure_of_strangers_and_past_the_window_are_counted_out() -> None:
    outcomes = came(("a", 9, 100.0), ("a", 10, 1.0), ("b", 14, 2.0), ("b", 15, 100.0), ("x", 11, 100.0), ("z", 50, 0.0))
    found = report(exposed(*FOUR, ("champion", "e", 46)), outcomes, window_us=5 * S)
    assert of(found)["champion"].mean == 1.5
    left = found.left_out
    assert (left.outcomes_before_exposure, left.outcomes_of_strangers, left.outcomes_past_window) == (1, 2, 1)
    assert (left.users_unripe, of(found)["champion"].users) == (1, 2)  # e, whose window ends at 51


def test_whoever_was_given_two_variants_counts_for_the_first_or_not_at_all() -> None:
    exposures = exposed(("challenger", "a", 20), *FOUR, ("challenger", "b", 10))
    outcomes = came(("a", 21, 4.0), ("b", 21, 2.0), ("c", 21, 1.0))
    first = report(exposures, outcomes)
    assert (first.left_out.users_crossed, first.left_out.users_crossed_excluded) == (2, False)
    assert (of(first)["champion"].users, of(first)["champion"].mean, of(first)["champion"].exposures) == (2, 3.0, 4)
    assert any("2 users were given two variants and count for the first" in each for each in first.cautions)
    excluded = report(exposures, outcomes, crossed="exclude", weights=EVEN)
    assert (excluded.left_out.users_crossed, excluded.left_out.users_crossed_excluded) == (2, True)
    assert (of(excluded)["champion"].users, of(excluded)["champion"].mean) == (0, None)
    assert any("variant 'champion': no users" in each for each in excluded.cautions)


def test_exposures_without_a_key_are_nobodys() -> None:
    found = report(exposed(*FOUR, ("champion", None, 10), ("challenger", None, 11)), came(("a", 11, 1.0)))
    assert (found.left_out.exposures_without_key, sum(each.exposures for each in found.variants)) == (2, 4)
    with pytest.raises(NotFound, match="nobody was exposed: of 1 exposures 1 have no key"):
        report(exposed(("champion", None, 10)), came(("a", 11, 1.0)))


def test_ratio_divides_by_exposures_or_by_a_column() -> None:
    exposures = exposed(*FOUR, ("champion", "a", 12), ("champion", "a", 13))
    outcomes = came(("a", 11, 2.0), ("b", 12, 1.0), ("c", 11, 1.0))
    found = report(exposures, outcomes, metric="ratio")
    assert [each.mean for each in found.variants] == pytest.approx([1 / 2, 3 / 4])
    shown = outcomes.append_column("shown", pa.array([10, 2, 5]))
    found = report(exposures, shown, metric="ratio", per="shown")
    assert [each.mean for each in found.variants] == pytest.approx([1 / 5, 3 / 12])
    nothing = shown.set_column(shown.column_names.index("shown"), "shown", pa.array([10, 2, 0]))
    found = report(exposures, nothing, metric="ratio", per="shown")
    assert (of(found)["challenger"].mean, of(found)["challenger"].against) == (None, None)
    assert any("variant 'challenger': nothing to divide by" in each for each in found.cautions)


def test_only_what_came_before_exposure_is_a_covariate() -> None:
    users, random = 400, np.random.default_rng(1)
    names = [f"u{user}" for user in range(users)]
    past = random.gamma(2.0, 1.0, users)
    exposures = exposed(*(("challenger" if user % 2 else "champion", name, 100) for user, name in enumerate(names)))
    before = [(name, 50, float(value)) for name, value in zip(names, past, strict=True)]
    after = [
        (name, 150, float(value + random.normal(0, 0.3) + 0.2 * (user % 2)))
        for user, (name, value) in enumerate(zip(names, past, strict=True))
    ]
    table = came(*before, *after)
    plain, narrow = report(exposures, table), report(exposures, table, table)
    assert plain.left_out.outcomes_before_exposure == users
    assert plain.variance_explained is None
    assert narrow.variance_explained == pytest.approx(0.95, abs=0.04)
    one, other = of(plain)["challenger"].against, of(narrow)["challenger"].against
    assert one is not None
    assert other is not None
    assert (other.high - other.low) < 0.35 * (one.high - one.low)
    assert other.low < 0.2 < other.high
    assert other.significant


def test_numbers_as_keys_are_their_text() -> None:
    found = report(exposed(("champion", "42", 1), ("challenger", "7", 1)), came((42, 2, 1.0), (7, 3, 2.0)))
    assert [(each.name, each.mean) for each in found.variants] == [("challenger", 2.0), ("champion", 1.0)]
    assert found.left_out.outcomes_of_strangers == 0


def many(counts: Mapping[str, int], seed: int = 2) -> tuple[pa.Table, pa.Table]:
    """So many users of each variant, each with an outcome drawn alike."""
    random = np.random.default_rng(seed)
    users = [(name, f"{name}{user}") for name, count in counts.items() for user in range(count)]
    exposures = exposed(*((name, key, 1) for name, key in users))
    return exposures, came(*((key, 2, float(random.normal(1, 0.5))) for _, key in users))


@pytest.mark.parametrize(("challenger", "mismatched"), [(100, False), (140, True)])
def test_numbers_of_users_that_the_weights_do_not_explain_are_told(challenger: int, mismatched: bool) -> None:
    tables = many({"champion": 900, "challenger": challenger})
    found = report(*tables, weights={"champion": 90, "challenger": 10})
    assert found.mismatched is mismatched
    assert any(
        "sample ratio mismatch: 900 : 140 users where the weights are 90 : 10" in each for each in found.cautions
    ) is (mismatched)
    assert report(*tables).sample_ratio_p is None


def test_each_caution_says_what_is_wrong() -> None:
    few = report(*many({"champion": 50, "challenger": 500, "old": 3}), weights=EVEN | {"old": 0})
    assert any("'champion': not enough data yet, 50 users" in each for each in few.cautions)
    assert any("'old' has 3 users, but no weight" in each for each in few.cautions)
    alike = report(*many({"champion": 2000, "challenger": 2000}, 4), weights=EVEN)
    (only,) = alike.cautions
    assert "'challenger': no difference found; with so few users one below 0.04" in only
    assert "of the champion's) is missed more than once in five" in only
    exposures, outcomes = many({"champion": 200, "challenger": 200})
    rare = came(*((row["key"], 2, float(row["key"].endswith("00"))) for row in outcomes.to_pylist()))
    assert any("values are skewed" in each for each in report(exposures, rare).cautions)
    elsewhere = came(*((f"id-{row['key']}", 2, 1.0) for row in outcomes.to_pylist()))
    assert any(
        "400 outcomes are of keys that were never exposed" in each for each in report(exposures, elsewhere).cautions
    )
    assert any("no value varies" in each for each in report(exposures, elsewhere).cautions)
    early = came(*((row["key"], 0, 1.0) for row in outcomes.to_pylist()))
    assert any("400 outcomes come before" in each for each in report(exposures, early).cautions)
    assert any("without a window" in each for each in report(exposures, outcomes, sequential=True).cautions)


def test_several_challengers_share_the_errors_that_are_allowed() -> None:
    two = many({"champion": 500, "challenger": 500})
    three = tuple(pa.concat_tables(each) for each in zip(two, many({"other": 500}, 3), strict=True))
    alone, beside = (of(report(*tables))["challenger"].against for tables in (two, three))
    assert alone is not None
    assert beside is not None
    assert alone.p_value is not None
    assert beside.p_value == pytest.approx(min(1.0, 2 * alone.p_value))
    assert (beside.high - beside.low) / (alone.high - alone.low) == pytest.approx(2.244 / 1.962, rel=0.01)


def test_sequential_intervals_are_wider() -> None:
    tables = many({"champion": 500, "challenger": 500})
    once, always = (of(report(*tables, sequential=each))["challenger"].against for each in (False, True))
    assert once is not None
    assert always is not None
    assert always.low < once.low < once.high < always.high


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"champion": "chalenger"}, "no variant 'chalenger'; nearest: 'challenger'"),
        ({"value": "revenue"}, "no columns 'revenue'"),
        ({"confidence": 1.0}, "confidence: expected 0.5 or more and less than 1, got 1"),
        ({"per": "shown"}, "per: 'shown' divides a ratio, but the metric is a mean"),
        ({"planned_users": 0}, "planned_users: expected 2 or more, got 0"),
    ],
)
def test_what_cannot_be_answered_is_told(asked: dict[str, Any], words: str) -> None:
    with pytest.raises((NotFound, InvalidArgument), match=words):
        report(exposed(*FOUR), came(("a", 11, 1.0)), **asked)


def test_wrong_columns_are_told() -> None:
    good, bad = came(("a", 11, 1.0)), came(("a", 11, float("nan")))
    with pytest.raises(InvalidArgument, match="column 'value': 1 of 1 values are null or not finite"):
        report(exposed(*FOUR), bad)
    with pytest.raises(InvalidArgument, match="column 'value': expected numbers, got"):
        report(exposed(*FOUR), good.set_column(2, "value", pa.array(["1"])))
    with pytest.raises(InvalidArgument, match="column 'key': a key is text or a whole number, got double"):
        report(exposed(*FOUR), good.set_column(0, "key", pa.array([1.5])))
    with pytest.raises(InvalidArgument, match="column 'time': 1 of 1 times are null"):
        report(exposed(*FOUR), good.set_column(1, "time", pa.array([None], pa.timestamp("us"))))
    with pytest.raises(InvalidArgument, match="column 'time': expected a timestamp"):
        report(exposed(*FOUR), good.set_column(1, "time", pa.array(["now"])))
