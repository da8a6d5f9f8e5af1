"""The shop that the benchmark serves: a world of the asked size, its models, its items indexed, its users' ratings in the log.

It is made once, by a process of its own, and kept; the mark is written last.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.graphs.running import run_driver
from benchmarks.harness import LOAD_CORE, SERVER_CORE
from benchmarks.workloads.recommendation.application import Application
from benchmarks.workloads.recommendation.summary import FILE

DRIVER = "benchmarks.recommendation.drive_fill"
FILL_S_MAX = 3600.0
DIFFERENT = 4096
"""Requests in rotation."""

REFRESHED = (1.1, 1.2)
"""By what the second version's user and item vectors are longer: its scores are 1.32 times the first's, and neither 1.1 nor 1.2
times, as they would be were the versions mixed. The ranker takes either."""

Longs = NDArray[np.int64]


class NotBuiltError(Exception):
    """The models are not there; the message says how they are made."""


@dataclass(frozen=True, slots=True)
class Filled:
    """What filling the shop took."""

    items: int
    users: int
    events: int
    items_s: float
    indexed_s: float
    events_s: float


@dataclass(frozen=True, slots=True)
class Shop:
    """Where all of it lies: the application's spec, functions, models, vectors and logs; requests as frames and as columns."""

    folder: Path

    @property
    def frames(self) -> Path:
        """Requests to the graph."""
        return self.folder / "requests.frames"

    @property
    def asked(self) -> Path:
        """The same as columns, .npz: user [n], region [n], history [n, 50], as_of_us [n]."""
        return self.folder / "requests.npz"

    @property
    def catalogue(self) -> Path:
        """Rows of items, .npz, a row a number from 1 on: features, vector, category, stock, regions."""
        return self.folder / "catalogue.npz"

    @property
    def users(self) -> Path:
        """Who asks, .npz: user [m], row [m, 43] as the models see it then; vector [n, 64] of the user tower, of each request."""
        return self.folder / "users.npz"

    @property
    def told(self) -> Filled:
        """What filling it took."""
        return msgspec.json.decode((self.folder / "filled.json").read_bytes(), type=Filled)

    def exists(self) -> bool:
        """Whether it is whole."""
        return (self.folder / "filled.json").exists()

    def requests(self) -> dict[str, NDArray[Any]]:
        """Columns of `asked`."""
        with np.load(self.asked) as stored:
            return dict(stored)


def prepared(built: Path, cache: Path, *, items: int, users: int, seed: int) -> Shop:
    """The shop of that size, made now where it is missing (minutes for a million). Raises NotBuiltError, DriverError."""
    if not (built / FILE).exists():
        raise NotBuiltError(
            f"there are no models in {built}; 'python -m benchmarks.workloads.recommendation --out {built}' trains them (needs "
            "the extra 'train')"
        )
    shop = Shop(cache / f"shop-{items}-{users}-{seed}")
    if not shop.exists():
        order = {"built": str(built), "folder": str(shop.folder), "items": items, "users": users, "seed": seed}
        run_driver(DRIVER, order, core=(SERVER_CORE, LOAD_CORE), timeout_s=FILL_S_MAX)
    Application(shop.folder).write()  # the graph, where it has changed since
    return shop
