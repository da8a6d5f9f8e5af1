"""Features agree with a plain twin that looks at one transaction at a time, and never see what was not known yet."""

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.workloads.fraud.features import CUSTOMER_WINDOWS_S, FEATURES, LABEL_DELAY_S, WINDOWS_S, feature_matrix
from benchmarks.workloads.fraud.transactions import DAY_S, Transactions
from tests.benchmarks.workloads.fraud.built import Build

CUSTOMERS, TERMINALS = 15, 20
Rows = NDArray[np.int64]


@pytest.fixture(scope="module")
def few(build: Build) -> Transactions:
    """All transactions of some customers, at few terminals so that these have a history too, with some at one instant."""
    kept = build.transactions.take(np.flatnonzero(build.transactions.customer < CUSTOMERS))
    time_s = kept.time_s.copy()
    time_s[100:600:50] = time_s[101:601:50]
    return replace(kept, terminal=kept.terminal % TERMINALS, time_s=time_s)


def past(transactions: Transactions, mine: NDArray[np.bool_], now_s: int, length_s: int, delay_s: int = 0) -> Rows:
    """The rows among `mine` in a window before `now_s`, by looking at all."""
    time_s = transactions.time_s
    return np.flatnonzero(mine & (time_s < now_s - delay_s) & (time_s >= now_s - delay_s - length_s))


def great_circle_km(one: tuple[float, float], other: tuple[float, float]) -> float:
    """By the spherical law of cosines, which is another formula than the one under test."""
    (here, there), (east, west) = np.radians([one[0], other[0]]), np.radians([one[1], other[1]])
    cosine = math.sin(here) * math.sin(there) + math.cos(here) * math.cos(there) * math.cos(east - west)
    return 6371.0 * math.acos(min(1.0, max(-1.0, cosine)))


def naive_raw(every: Transactions, row: int) -> dict[str, float]:
    billing = (every.billing_latitude[row], every.billing_longitude[row])
    shipping = (every.shipping_latitude[row], every.shipping_longitude[row])
    terminal = (every.terminal_latitude[row], every.terminal_longitude[row])
    day, second = divmod(int(every.time_s[row]), DAY_S)
    return {
        "amount": every.amount_cents[row] / 100,
        "card_present": float(every.card_present[row]),
        "hour_of_day": second / 3600,
        "day_of_week": day % 7,
        "billing_to_terminal_km": great_circle_km(billing, terminal),
        "billing_to_shipping_km": great_circle_km(billing, shipping),
        "shipping_to_terminal_km": great_circle_km(shipping, terminal),
    }


def naive_amounts(every: Transactions, rows: Rows) -> tuple[float, float]:
    amounts = every.amount_cents[rows] / 100
    return (float(np.mean(amounts)), float(np.std(amounts))) if len(rows) else (0.0, 0.0)


def naive_ratio(amount: float, mean: float) -> float:
    return amount / mean if mean else 1.0


def naive_customer(every: Transactions, row: int) -> dict[str, float]:
    now_s, mine = int(every.time_s[row]), every.customer == every.customer[row]
    found: dict[str, float] = {}
    for name, length_s in CUSTOMER_WINDOWS_S.items():
        rows = past(every, mine, now_s, length_s)
        mean, deviation = naive_amounts(every, rows)
        found |= {f"customer_count_{name}": len(rows), f"customer_amount_mean_{name}": mean}
        found[f"customer_amount_deviation_{name}"] = deviation
    for name in ("7d", "30d"):
        mean = found[f"customer_amount_mean_{name}"]
        found[f"customer_amount_ratio_{name}"] = naive_ratio(every.amount_cents[row] / 100, mean)
    earlier = past(every, mine, now_s, now_s + 1)
    since_s = naive_since(every, earlier, now_s)
    km = 0.0
    if len(earlier):
        last = earlier[np.flatnonzero(every.time_s[earlier] == every.time_s[earlier].max())[-1]]
        here, there = ((every.terminal_latitude[each], every.terminal_longitude[each]) for each in (row, last))
        km = great_circle_km(here, there)
    found |= {"customer_seconds_since_previous": since_s, "customer_km_from_previous": km}
    return {**found, "customer_km_per_hour": km / (max(since_s, 60) / 3600)}


def naive_since(every: Transactions, earlier: Rows, now_s: int) -> int:
    return min(now_s - int(every.time_s[earlier].max(initial=-(10**9))), 30 * DAY_S)


def naive_terminal(every: Transactions, row: int) -> dict[str, float]:
    now_s, mine = int(every.time_s[row]), every.terminal == every.terminal[row]
    found: dict[str, float] = {}
    for name, length_s in WINDOWS_S.items():
        rows = past(every, mine, now_s, length_s)
        found |= {f"terminal_count_{name}": len(rows), f"terminal_amount_mean_{name}": naive_amounts(every, rows)[0]}
    mean = found["terminal_amount_mean_30d"]
    found["terminal_amount_ratio_30d"] = naive_ratio(every.amount_cents[row] / 100, mean)
    found["terminal_seconds_since_previous"] = naive_since(every, past(every, mine, now_s, now_s + 1), now_s)
    return found


def naive_labels(entity: str, every: Transactions, row: int) -> dict[str, float]:
    whose = every.customer if entity == "customer" else every.terminal
    found: dict[str, float] = {}
    for name, length_s in WINDOWS_S.items():
        rows = past(every, whose == whose[row], int(every.time_s[row]), length_s, LABEL_DELAY_S)
        frauds = int(every.fraud[rows].sum())
        found |= {f"{entity}_frauds_{name}": frauds, f"{entity}_fraud_share_{name}": frauds / max(len(rows), 1)}
    return found


def naive_features(every: Transactions, row: int) -> list[float]:
    found = {
        **naive_raw(every, row),
        **naive_customer(every, row),
        **naive_terminal(every, row),
        **naive_labels("customer", every, row),
        **naive_labels("terminal", every, row),
    }
    return [found[name] for name in FEATURES]


def test_features_agree_with_a_plain_twin(few: Transactions) -> None:
    matrix = feature_matrix(few)
    naive = np.array([naive_features(few, row) for row in range(len(few))])
    for index, name in enumerate(FEATURES):
        # Law of cosines: a metre or so is lost near zero distance, and a metre in a minute is 0.06 km/h.
        tolerance = 0.2 if name == "customer_km_per_hour" else 2e-3 if "km" in name else 1e-6
        np.testing.assert_allclose(matrix[:, index], naive[:, index], rtol=2e-6, atol=tolerance, err_msg=name)
    assert (matrix.std(axis=0) > 0).all(), "a constant column would prove nothing"


def test_the_future_does_not_change_a_feature(few: Transactions) -> None:
    matrix = feature_matrix(few)
    for known in (1, 50, 105, 400, len(few) - 1):
        np.testing.assert_array_equal(feature_matrix(few.take(np.arange(known))), matrix[:known])


def test_a_label_does_not_change_a_feature_before_it_is_a_week_old(few: Transactions) -> None:
    matrix = feature_matrix(few)
    for row in range(200, len(few), 150):
        unknown = few.time_s >= few.time_s[row] - LABEL_DELAY_S
        np.testing.assert_array_equal(feature_matrix(replace(few, fraud=few.fraud ^ unknown))[row], matrix[row])


def test_a_label_counts_once_it_is_a_week_old(few: Transactions) -> None:
    row = len(few) - 1
    old = (few.terminal == few.terminal[row]) & (few.time_s < few.time_s[row] - LABEL_DELAY_S)
    latest = np.arange(len(few)) == np.flatnonzero(old)[-1]
    changed = feature_matrix(replace(few, fraud=few.fraud ^ latest))[row] != feature_matrix(few)[row]
    names = {name for name, different in zip(FEATURES, changed, strict=True) if different}
    assert {"terminal_frauds_30d", "terminal_fraud_share_30d"} <= names <= set(FEATURES)


def test_features_are_finite_float32_and_each_is_explained(build: Build) -> None:
    assert build.matrix.dtype == np.float32
    assert build.matrix.shape == (len(build.transactions), len(FEATURES))
    assert np.isfinite(build.matrix).all()
    assert all(about.endswith(".") and len(about) > 10 for about in FEATURES.values())
    assert build.summary.features == list(FEATURES)
