"""The fraud workload's features by views: the columns computed by hand say the same, but for where windows begin."""

import numpy as np

from benchmarks.workloads.fraud.features import label_columns, seconds_since
from benchmarks.workloads.fraud.view_features import DELAYED_LABELS, WINDOWS, view_columns
from benchmarks.workloads.fraud.windows import Timeline
from tests.benchmarks.workloads.fraud.built import Build


def test_a_view_counts_what_is_counted_by_hand_and_up_to_one_tile_more(build: Build) -> None:
    transactions = build.transactions
    columns = view_columns(transactions, (*WINDOWS, *DELAYED_LABELS))
    timeline = Timeline(transactions.terminal, transactions.time_s)
    by_hand = label_columns("terminal", transactions, timeline)
    for window in ("1d", "7d", "30d"):
        mine = np.nan_to_num(columns[f"terminal_labels_frauds_{window}"])
        assert (mine >= by_hand[f"terminal_frauds_{window}"]).all()
        assert mine.sum() <= 1.2 * by_hand[f"terminal_frauds_{window}"].sum()


def test_time_since_the_last_transaction_is_exact_but_for_the_order_within_a_second(build: Build) -> None:
    transactions = build.transactions
    mine = view_columns(transactions, ("customer",))["customer_since_s"]
    row, known = Timeline(transactions.customer, transactions.time_s).previous()
    by_hand = seconds_since(transactions, row, known)
    recent = known & (by_hand < 29 * 86_400)
    np.testing.assert_allclose(mine[recent], by_hand[recent], atol=1e-3)  # of one second's, one is before the other


def test_nothing_is_known_of_labels_in_the_first_week(build: Build) -> None:
    columns = view_columns(build.transactions, DELAYED_LABELS)
    early = build.transactions.day < 7
    assert all(np.isnan(column[early]).all() for column in columns.values())
