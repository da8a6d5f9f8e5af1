"""What the model sees of a transaction: itself, the past of its customer and terminal, and labels as they became known.

Nothing here looks at the present moment's other transactions or at the future: windows end strictly before the
transaction, and a label counts only once it is LABEL_DELAY_S old, the time an issuer needs to hear of fraud.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.workloads.fraud.transactions import DAY_S, Transactions
from benchmarks.workloads.fraud.windows import Timeline, Window

LABEL_DELAY_S = 7 * DAY_S
SINCE_S_MAX = 30 * DAY_S
EARTH_RADIUS_KM = 6371.0
HOUR_S = 3600

WINDOWS_S = {"1d": DAY_S, "7d": 7 * DAY_S, "30d": 30 * DAY_S}
CUSTOMER_WINDOWS_S = {"1h": HOUR_S, **WINDOWS_S}

RAW: Mapping[str, str] = {
    "amount": "What is to be paid.",
    "card_present": "1 when the card is in a terminal, 0 when only its number is given.",
    "hour_of_day": "Hours since midnight, fractions included.",
    "day_of_week": "0 to 6, counted from the day that the simulation starts on.",
    "billing_to_terminal_km": "Distance from the billing address to the terminal.",
    "billing_to_shipping_km": "Distance from the billing address to the shipping address.",
    "shipping_to_terminal_km": "Distance from the shipping address to the terminal.",
}
CUSTOMER: Mapping[str, str] = {
    **{f"customer_count_{name}": f"The customer's transactions in the last {name}." for name in CUSTOMER_WINDOWS_S},
    **{
        f"customer_amount_mean_{name}": f"Their mean amount in the last {name}; 0 if none."
        for name in CUSTOMER_WINDOWS_S
    },
    **{
        f"customer_amount_deviation_{name}": f"Their amounts' standard deviation in the last {name}; 0 if none."
        for name in CUSTOMER_WINDOWS_S
    },
    "customer_amount_ratio_7d": "The amount over the customer's mean of the last 7d; 1 if there is none.",
    "customer_amount_ratio_30d": "The amount over the customer's mean of the last 30d; 1 if there is none.",
    "customer_seconds_since_previous": "Seconds since the customer's previous transaction, at most 30 days.",
    "customer_km_from_previous": "Distance from the terminal of the customer's previous transaction; 0 if none.",
    "customer_km_per_hour": "That distance over the hours in between (at least one minute).",
}
TERMINAL: Mapping[str, str] = {
    **{f"terminal_count_{name}": f"The terminal's transactions in the last {name}." for name in WINDOWS_S},
    **{f"terminal_amount_mean_{name}": f"Their mean amount in the last {name}; 0 if none." for name in WINDOWS_S},
    "terminal_amount_ratio_30d": "The amount over the terminal's mean of the last 30d; 1 if there is none.",
    "terminal_seconds_since_previous": "Seconds since the terminal's previous transaction, at most 30 days.",
}
LABELS: Mapping[str, str] = {
    f"{entity}_{what}_{name}": f"{said} among the {entity}'s transactions of the {name} that ended 7 days ago."
    for entity in ("customer", "terminal")
    for name in WINDOWS_S
    for what, said in (("frauds", "Frauds"), ("fraud_share", "Share of frauds (0 if none)"))
}
FEATURES: Mapping[str, str] = {**RAW, **CUSTOMER, **TERMINAL, **LABELS}
"""Every feature by name, in the order of the model's columns, with a sentence on what it is."""

Column = NDArray[np.float64]
Columns = dict[str, Column]
Matrix = NDArray[np.float32]


def feature_matrix(transactions: Transactions) -> Matrix:
    """A row a transaction, a column for each of FEATURES, float32, all finite. `transactions` are the whole past."""
    customers = Timeline(transactions.customer, transactions.time_s)
    terminals = Timeline(transactions.terminal, transactions.time_s)
    columns = {
        **raw_columns(transactions),
        **customer_columns(transactions, customers),
        **terminal_columns(transactions, terminals),
        **label_columns("customer", transactions, customers),
        **label_columns("terminal", transactions, terminals),
    }
    assert columns.keys() == FEATURES.keys()
    return np.ascontiguousarray(np.stack([columns[name] for name in FEATURES], axis=1), dtype=np.float32)


def raw_columns(transactions: Transactions) -> Columns:
    """What the transaction says of itself."""
    billing, shipping, terminal = places(transactions)
    return {
        "amount": transactions.amount_cents / 100,
        "card_present": transactions.card_present.astype(np.float64),
        "hour_of_day": transactions.time_s % DAY_S / HOUR_S,
        "day_of_week": (transactions.day % 7).astype(np.float64),
        "billing_to_terminal_km": distance_km(billing, terminal),
        "billing_to_shipping_km": distance_km(billing, shipping),
        "shipping_to_terminal_km": distance_km(shipping, terminal),
    }


def customer_columns(transactions: Transactions, timeline: Timeline) -> Columns:
    """What the customer did before."""
    columns: Columns = {}
    for name, length_s in CUSTOMER_WINDOWS_S.items():
        past = amounts(transactions, timeline, Window(length_s))
        columns[f"customer_count_{name}"] = past.count
        columns[f"customer_amount_mean_{name}"] = past.mean
        columns[f"customer_amount_deviation_{name}"] = past.deviation
    for name in ("7d", "30d"):
        columns[f"customer_amount_ratio_{name}"] = amount_ratio(transactions, columns[f"customer_amount_mean_{name}"])
    row, known = timeline.previous()
    since_s = seconds_since(transactions, row, known)
    terminal = places(transactions)[2]
    km = np.where(known, distance_km(terminal, terminal.take(row)), 0.0)
    columns["customer_seconds_since_previous"] = since_s
    columns["customer_km_from_previous"] = km
    columns["customer_km_per_hour"] = km / (np.maximum(since_s, 60) / HOUR_S)
    return columns


def terminal_columns(transactions: Transactions, timeline: Timeline) -> Columns:
    """What happened at the terminal before."""
    columns: Columns = {}
    for name, length_s in WINDOWS_S.items():
        past = amounts(transactions, timeline, Window(length_s))
        columns[f"terminal_count_{name}"] = past.count
        columns[f"terminal_amount_mean_{name}"] = past.mean
    columns["terminal_amount_ratio_30d"] = amount_ratio(transactions, columns["terminal_amount_mean_30d"])
    columns["terminal_seconds_since_previous"] = seconds_since(transactions, *timeline.previous())
    return columns


def label_columns(entity: str, transactions: Transactions, timeline: Timeline) -> Columns:
    """Frauds of the customer or terminal that were known by then."""
    columns: Columns = {}
    for name, length_s in WINDOWS_S.items():
        window = Window(length_s, end_s=LABEL_DELAY_S)
        frauds = timeline.sums(transactions.fraud.astype(np.int64), window).astype(np.float64)
        columns[f"{entity}_frauds_{name}"] = frauds
        columns[f"{entity}_fraud_share_{name}"] = frauds / np.maximum(timeline.counts(window), 1)
    return columns


@dataclass(frozen=True, slots=True)
class Amounts:
    """Amounts in a window: how many, their mean and their population standard deviation (0 where there are none)."""

    count: Column
    mean: Column
    deviation: Column


def amounts(transactions: Transactions, timeline: Timeline, window: Window) -> Amounts:
    """The amounts in each transaction's window. Sums are whole cents, so cancellation costs no digits."""
    cents = transactions.amount_cents
    count = timeline.counts(window)
    at_least_one = np.maximum(count, 1)
    total, squares = timeline.sums(cents, window), timeline.sums(cents * cents, window)
    variance = (count * squares - total * total) / at_least_one**2
    return Amounts(count.astype(np.float64), total / at_least_one / 100, np.sqrt(variance) / 100)


def amount_ratio(transactions: Transactions, mean: Column) -> Column:
    """The amount over `mean`; 1 where there is no mean."""
    return np.divide(transactions.amount_cents / 100, mean, out=np.ones_like(mean), where=mean > 0)


def seconds_since(transactions: Transactions, row: NDArray[np.int64], known: NDArray[np.bool_]) -> Column:
    """Seconds since the transaction in `row`, bounded; the bound where none is known."""
    since_s = transactions.time_s - transactions.time_s[row]
    return np.where(known, np.minimum(since_s, SINCE_S_MAX), SINCE_S_MAX).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Places:
    """Points on the globe, in radians."""

    latitude: Column
    longitude: Column

    def take(self, rows: NDArray[np.int64]) -> "Places":
        """These rows."""
        return Places(self.latitude[rows], self.longitude[rows])


def places(transactions: Transactions) -> tuple[Places, Places, Places]:
    """Billing address, shipping address, terminal."""
    return (
        Places(np.radians(transactions.billing_latitude), np.radians(transactions.billing_longitude)),
        Places(np.radians(transactions.shipping_latitude), np.radians(transactions.shipping_longitude)),
        Places(np.radians(transactions.terminal_latitude), np.radians(transactions.terminal_longitude)),
    )


def distance_km(one: Places, other: Places) -> Column:
    """Great-circle distance, by the haversine formula."""
    across = np.sin((one.latitude - other.latitude) / 2) ** 2
    along = np.sin((one.longitude - other.longitude) / 2) ** 2
    square = across + np.cos(one.latitude) * np.cos(other.latitude) * along
    distance: Column = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(square, 0, 1)))
    return distance
