"""The ledger's expectations, beside a loop over its events; and how mistakes are told."""

import numpy as np
import pytest

from benchmarks.features.events import SECOND_US
from benchmarks.features.ledger import (
    CARDS,
    WINDOWS_S,
    amounts_of,
    as_of,
    batch_of,
    cards_of,
    expected,
    mistakes,
    times_of,
)


@pytest.mark.parametrize("events", [1, 40, 3000])
def test_what_is_expected_is_what_a_loop_over_the_events_gives(events: int) -> None:
    wanted = expected(events)
    ids = np.arange(events)
    rows = list(zip(cards_of(ids).tolist(), times_of(ids).tolist(), amounts_of(ids).tolist(), strict=True))
    for card in (0, 7, CARDS - 1):
        for window, (length_s, tile_s) in WINDOWS_S.items():
            first = (as_of(events) - length_s * SECOND_US) // (tile_s * SECOND_US) * tile_s * SECOND_US
            amounts = [amount for whose, at_us, amount in rows if whose == card and at_us >= first]
            assert wanted[f"amount_count_{window}"][card] == len(amounts)
            assert wanted[f"amount_sum_{window}"][card] == sum(amounts)
            if amounts:
                assert wanted[f"amount_max_{window}"][card] == max(amounts)
            else:
                assert np.isnan(wanted[f"amount_max_{window}"][card])


def test_a_wrong_feature_a_missing_one_and_one_too_many_are_mistakes() -> None:
    events = 20
    wanted = expected(events)
    values = np.stack(list(wanted.values()), axis=1)
    absent = np.bincount(cards_of(np.arange(events)), minlength=CARDS) == 0
    values[absent] = np.nan
    assert mistakes(events, list(wanted), values) == []
    card = int(cards_of(np.arange(1))[0])
    for value in (values[card, 0] + 1, np.nan):
        wrong = values.copy()
        wrong[card, 0] = value
        assert mistakes(events, list(wanted), wrong) == [
            f"card {card}: {next(iter(wanted))} is {value}, not {values[card, 0]}"
        ]
    invented = values.copy()
    invented[np.flatnonzero(absent)[0], 0] = 0.0
    assert len(mistakes(events, list(wanted), invented)) == 1


def test_a_batch_is_the_events_of_its_numbers() -> None:
    assert batch_of(5, 9).equals(batch_of(0, 9).slice(5))
