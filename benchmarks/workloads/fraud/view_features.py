"""The past of every transaction by feature views, as it would have been served: what the decision's model is trained on.

The views are declared in graph.yaml, the text that a server is given. History answers each of them at the instant of every
transaction; `engine` promises that a lookup then would have said the same.
"""

from collections.abc import Mapping
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.workloads.fraud.application import DECLARED
from benchmarks.workloads.fraud.devices import devices_of
from benchmarks.workloads.fraud.features import LABEL_DELAY_S
from benchmarks.workloads.fraud.transactions import Transactions
from engine import History, Spec, compile_view, load_spec

SECOND_US = 1_000_000
EPOCH_S = 1_735_689_600
"""2025-01-01, the first midnight of the simulation."""

INSTANT = pa.timestamp("us", "UTC")
WINDOWS = ("customer", "terminal", "device")
DELAYED_LABELS = ("customer_labels", "terminal_labels")
Column = npt.NDArray[np.float64]
Instants = npt.NDArray[np.int64]


@cache
def graph_spec() -> Spec:
    """Logs, views, functions and the graph of the workload."""
    return load_spec(DECLARED)


def view_columns(transactions: Transactions, names: tuple[str, ...]) -> dict[str, Column]:
    """Every feature of these views at each transaction, float64, NaN where null; named VIEW_FEATURE."""
    found = view_matrices(transactions, names)
    views = graph_spec().feature_views
    return {
        f"{name}_{feature}": found[name][:, column]
        for name in names
        for column, feature in enumerate(views[name].features)
    }


def view_matrices(
    transactions: Transactions, names: tuple[str, ...] = (*WINDOWS, *DELAYED_LABELS)
) -> dict[str, Column]:
    """What each view answers at each transaction: float64 [transactions, features], NaN where null."""
    spec = graph_spec()
    logs = {"transactions": transaction_events(transactions), "labels": label_events(transactions)}
    given, found = request_of(transactions), {}
    for name in names:
        declared = spec.feature_views[name]
        events = logs[declared.source]
        history = History(compile_view(name, declared, events.schema), events)
        keys = logs["transactions"][declared.entity]
        past = history.at(keys, times_us(transactions), request={each: given[each] for each in declared.request})
        found[name] = np.stack([as_floats(values) for values in past.features.values()], axis=1)
    return found


def times_us(transactions: Transactions) -> Instants:
    """Of each transaction, since the Unix epoch: its second, and as many microseconds as others of that second came before.

    So no two are at one instant, and of any two it is certain which knew of the other.
    """
    time_s = transactions.time_s
    first = np.searchsorted(time_s, time_s, side="left")
    return (time_s + EPOCH_S) * SECOND_US + np.arange(len(time_s)) - first


def transaction_events(transactions: Transactions) -> pa.Table:
    """The log of transactions; `transaction` is the row's number."""
    numbers = np.arange(len(transactions))
    return pa.table(
        {
            "transaction": numbers,
            "customer": transactions.customer,
            "terminal": transactions.terminal,
            "device": devices_of(transactions.customer, numbers),
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
            "transaction": np.arange(len(transactions)),
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
