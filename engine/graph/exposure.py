"""Who got which variant of a split, as it is told to an experiment's log."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)  # not frozen: once a request
class Exposure:
    """A request, or those of its rows with `keys`, got `variant`, and was answered at `at_us`, microseconds since the Unix epoch.

    `keys` None: it was by chance.
    """

    experiment: str
    variant: str
    keys: list[bytes] | None
    request_id: str
    at_us: int
