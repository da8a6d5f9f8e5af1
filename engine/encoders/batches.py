"""Which texts run together. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def token_batches(lengths: Sequence[int], *, tokens_max: int, rows_max: int) -> list[list[int]]:
    """Every place of `lengths` once, in batches of alike lengths, the shortest first: so little is padding.

    A batch has at most `rows_max` places, and at most `tokens_max` tokens once each is padded to its longest; one place may
    exceed that and is then alone.
    """
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        batch = batches[-1] if batches else None
        if batch is None or len(batch) >= rows_max or (len(batch) + 1) * lengths[place] > tokens_max:
            batches.append([place])
        else:
            batch.append(place)
    return batches
