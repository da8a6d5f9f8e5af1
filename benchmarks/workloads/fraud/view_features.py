"""The same past that `features` computes by hand, computed by feature views: of every transaction, as it would have been served.

The views are declared in views.yaml, the text that a server is given. History answers each of them at the instant of every
transaction; `engine` promises that a lookup then would have said the same.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.workloads.fraud.features import LABEL_DELAY_S
from benchmarks.workloads.fraud.transactions import Transactions
from engine import History, Spec, compile_view, load_spec

VIEWS = Path(__file__).with_name("views.yaml")
SECOND_US = 1_000_000
EPOCH_S = 1_735_689_600
"""2025-01-01, the first midnight of the simulation."""

INSTANT = pa.timestamp("us", "UTC")
WINDOWS = ("customer", "terminal")
DELAYED_LABELS = ("customer_labels", "terminal_labels")
Column = npt.NDArray[np.float64]


def views_spec() -> Spec:
    """Logs and views of the workload."""
    return load_spec(VIEWS)


def view_columns(transactions: Transactions, names: tuple[str, ...]) -> dict[str, Column]:
    """Every feature of these views at each transaction, float64, NaN where null; named VIEW_FEATURE."""
    spec = views_spec()
    logs = {"transactions": transaction_events(transactions), "labels": label_events(transactions)}
    columns: dict[str, Column] = {}
    for name in names:
        declared = spec.feature_views[name]
        events = logs[declared.source]
        history = History(compile_view(name, declared, events.schema), events)
        keys = pa.array(getattr(transactions, declared.entity))
        given = request_of(transactions)
        past = history.at(keys, times_us(transactions), request={each: given[each] for each in declared.request})
        columns |= {f"{name}_{feature}": as_floats(values) for feature, values in past.features.items()}
    return columns


def times_us(transactions: Transactions) -> npt.NDArray[np.int64]:
    """Of each transaction, since the Unix epoch."""
    return (transactions.time_s + EPOCH_S) * SECOND_US


def transaction_events(transactions: Transactions) -> pa.Table:
    """The log of transactions."""
    return pa.table(
        {
            "customer": transactions.customer,
            "terminal": transactions.terminal,
            "at": pa.array(times_us(transactions)).cast(INSTANT),
            "amount": transactions.amount_cents / 100,
            "latitude": transactions.terminal_latitude,
            "longitude": transactions.terminal_longitude,
        }
    )


def label_events(transactions: Transactions) -> pa.Table:
    """The log of labels: each becomes known LABEL_DELAY_S after its transaction, and that is its event time."""
    known_us = times_us(transactions) + LABEL_DELAY_S * SECOND_US
    return pa.table(
        {
            "customer": transactions.customer,
            "terminal": transactions.terminal,
            "at": pa.array(known_us).cast(INSTANT),
            "fraud": transactions.fraud.astype(np.float64),
        }
    )


def request_of(transactions: Transactions) -> Mapping[str, pa.Array]:
    """What comes with a scoring: the transaction itself."""
    return {
        "amount_now": pa.array(transactions.amount_cents / 100),
        "latitude_now": pa.array(transactions.terminal_latitude),
        "longitude_now": pa.array(transactions.terminal_longitude),
    }


def as_floats(values: pa.Array) -> Column:
    """NaN where null, which the trees take as missing."""
    floats: Column = values.cast(pa.float64()).fill_null(float("nan")).to_numpy(zero_copy_only=False)
    return floats
