"""Many may pass, or one alone: plain writes go on beside each other, a change that reads before it writes goes alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Who wants to be alone goes before those that come after it."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._inside = 0
        self._alone = False
        self._waiting = 0

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Beside any number of others, while nobody is alone."""
        with self._condition:
            while self._alone or self._waiting:
                self._condition.wait()
            self._inside += 1
        try:
            yield
        finally:
            with self._condition:
                self._inside -= 1
                if not self._inside:
                    self._condition.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Once all who are inside have left."""
        with self._condition:
            self._waiting += 1
            try:
                while self._alone or self._inside:
                    self._condition.wait()
            finally:  # an interrupt is to keep nobody out
                self._waiting -= 1
                self._condition.notify_all()
            self._alone = True
        try:
            yield
        finally:
            with self._condition:
                self._alone = False
                self._condition.notify_all()
