"""Which served rows of a view are kept for the skew probe, and when they are written. It knows nothing of what is compared."""

from __future__ import annotations

import logging
import math
import threading
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.clock import Clock
from engine.errors import VireoError
from engine.features.answer import FeatureRows, Given
from engine.features.sample_file import SampleFile
from engine.features.skew import ServedRow, ServedSample, Value, served_row

log = logging.getLogger("vireo.features")

Instants = int | npt.NDArray[np.int64]


class Sampling:
    """The sample of one view over time. Any thread serves; `save_if_due` and `close` are called by one at a time.

    Nothing raises: a file that cannot be written is told in a warning, and the next one is tried when it is due.
    """

    def __init__(
        self, file: SampleFile, *, rows_max: int, every_s: float, clock: Clock, wall_us: Callable[[], int]
    ) -> None:
        self._file, self._view = file, file.view
        self._request = {each.name: each.text for each in file.view.request}
        self._sample = ServedSample(rows_max, seed=zlib.crc32(file.view.name.encode()))
        self.skips: Callable[[int], bool] = self._sample.skips
        """See `ServedSample.skips`; bound once, because every lookup calls it."""
        self._every_ns, self._clock, self._wall_us = int(every_s * 1e9), clock, wall_us
        self._due_ns = clock() + self._every_ns
        self._writing: threading.Thread | None = None

    def offer(self, keys: pa.Array, as_of_us: Instants, least_us: Instants, request: Given, rows: FeatureRows) -> None:
        """Keeps those rows of an answer that are chosen. `least_us`: see `StateRows`; each instant is one for all, or by row."""
        read_us = self._wall_us()

        def made(at: int) -> ServedRow:
            return served_row(
                self._view.name, rows, at,
                entity=keys[at].as_py(), as_of_us=max(_at(as_of_us, at), _at(least_us, at)), read_us=read_us,
                request={name: _given(request[name][at], text) for name, text in self._request.items() if name in request},
            )  # fmt: skip

        self._sample.offer(len(keys), made)

    def forget(self) -> None:
        """Begins anew."""
        self._sample.take()

    def save_if_due(self) -> None:
        """Begins to write what was kept, in a thread of its own, where it is time and the last one is done."""
        if self._clock() < self._due_ns or (self._writing is not None and self._writing.is_alive()):
            return
        self._due_ns = self._clock() + self._every_ns
        self._writing = threading.Thread(target=self._write, name="vireo-sample", daemon=True)
        self._writing.start()

    def close(self) -> None:
        """Writes what was kept, and returns when it is there."""
        if self._writing is not None:
            self._writing.join()
        self._write()

    def _write(self) -> None:
        """Where nothing was served the last file stays."""
        rows, offered = self._sample.take()
        if not rows:
            return
        try:
            self._file.write(rows, offered)
        except (VireoError, pa.ArrowException) as error:
            log.warning("feature view %s: its sample is not written: %s", self._view.name, error)


def _at(instants: Instants, at: int) -> int:
    return int(instants[at]) if isinstance(instants, np.ndarray) else int(instants)


def _given(value: Any, text: bool) -> Value:  # noqa: ANN401  of Arrow, numpy or Python
    """Null where it is NaN, as for expressions, or not of the type declared, in which case the answer did not depend on it."""
    value = value.as_py() if isinstance(value, pa.Scalar) else value
    if text:
        return value.decode(errors="replace") if isinstance(value, bytes) else value if isinstance(value, str) else None
    try:
        number = math.nan if value is None else float(value)
    except (TypeError, ValueError):
        return None
    return None if math.isnan(number) else number
