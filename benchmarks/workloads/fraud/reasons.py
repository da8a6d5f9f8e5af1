"""Why a score is high, in words that a reviewer knows: groups of the model's columns, each with a code and a text. Pure.

A group's contribution is the sum of its columns' Shapley values: what it adds to the log-odds of fraud (`kernels.treeshap`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TOLD_MAX = 3
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Reason:
    """`columns` begin with one of these; the first reason that has a column takes it."""

    text: str
    columns: tuple[str, ...]


REASONS: Mapping[str, Reason] = {
    "AMOUNT": Reason("the amount itself", ("amount",)),
    "TIME": Reason("the hour and the day of the week", ("hour_of_day", "day_of_week")),
    "CARD_AMOUNT": Reason(
        "the amount is unlike the card's of the last 30 days",
        ("customer_ratio", "customer_deviation", "customer_mean"),
    ),
    "CARD_PLACE": Reason("the card moved far, or fast, since its last transaction", ("customer_moved",)),
    "CARD_PACE": Reason("the card is used more often, or sooner, than usual", ("customer_count", "customer_since")),
    "MERCHANT_AMOUNT": Reason(
        "the amount is unlike the merchant's of the last 30 days", ("terminal_ratio", "terminal_mean")
    ),
    "MERCHANT_PACE": Reason(
        "the merchant has more, or other, customers than usual",
        ("terminal_count", "terminal_customers", "terminal_since"),
    ),
    "DEVICE": Reason("how much, by whom and where the device was used lately", ("device_",)),
    "CARD_FRAUDS": Reason("the card had confirmed frauds", ("customer_labels_",)),
    "MERCHANT_FRAUDS": Reason("the merchant had confirmed frauds", ("terminal_labels_",)),
}
"""By code."""


def groups_of(columns: Sequence[str]) -> Floats:
    """float64 [columns, reasons]: 1 where the column belongs to the reason. Raises ValueError for one that has none."""
    groups = np.zeros((len(columns), len(REASONS)))
    for row, column in enumerate(columns):
        found = [index for index, each in enumerate(REASONS.values()) if column.startswith(each.columns)]
        if not found:
            raise ValueError(f"column '{column}' belongs to no reason")
        groups[row, found[0]] = 1.0
    return groups


def strongest(contributions: Floats) -> tuple[NDArray[np.int64], Floats]:
    """The TOLD_MAX greatest of each row, greatest first: which, and how much. float64 [rows, reasons] in."""
    order = np.argsort(-contributions, axis=1, kind="stable")[:, :TOLD_MAX]
    return order, np.take_along_axis(contributions, order, axis=1)
