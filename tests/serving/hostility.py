"""What the hostile suites share: a seed that replays them, how many examples they draw, and an ear for hidden faults."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import HealthCheck, settings

SEED_VARIABLE = "VIREO_HOSTILE_SEED"
SEED = int(os.environ.get(SEED_VARIABLE, random.SystemRandom().randrange(2**32)))


def drawing(examples: int) -> settings:
    """Hypothesis settings for a run that is made anew every time, `examples` long."""
    return settings(
        max_examples=examples, deadline=None, database=None, derandomize=False, suppress_health_check=list(HealthCheck)
    )


class Faults(logging.Handler):
    """Whatever the server logs as an error: an answer may look right and hide one."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps it."""
        self.told.append(logging.Formatter().format(record))


@contextmanager
def nothing_logged_as_an_error(*names: str) -> Iterator[None]:
    """Fails where one of the loggers is told of an error inside; prints how to replay it."""
    print(f"replay with {SEED_VARIABLE}={SEED}")
    faults, loggers = Faults(), [logging.getLogger(name) for name in names]
    for each in loggers:
        each.addHandler(faults)
    yield
    for each in loggers:
        each.removeHandler(faults)
    assert not faults.told
