"""Users, items and what passed between them, as columns: the form that real data and simulated data both have.

Users and items have numbers from 1; row 0 of every column stands for one of whom nothing is known, and is zeros.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

REGIONS = ("north", "south", "east", "west", "abroad")
SOLD_SHARE, STOCK_SHARE = 0.9, 0.95
"""Of the items, how many are sold in a region, and how many are in stock."""

Longs = NDArray[np.int64]
Singles = NDArray[np.float32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Users:
    """A row a user. `profile` [n, p]: what is known of them without any history. `region`: place in REGIONS."""

    profile: Singles
    region: Longs

    def __len__(self) -> int:
        return len(self.region)


@dataclass(frozen=True, slots=True)
class Items:
    """A row an item. `genres` [n, g]: 0 or 1; `category`: 1 + the rarest of its genres, or 0. `price`: in euros; `year`: of
    release, after 1900.

    `regions` [n, REGIONS]: where it is sold.
    """

    genres: Singles
    category: Longs
    price: Singles
    year: Singles
    in_stock: Flags
    regions: Flags

    def __len__(self) -> int:
        return len(self.category)

    @property
    def facts(self) -> Singles:
        """[n, g + 2]: genres, price, year."""
        return np.column_stack([self.genres, self.price, self.year]).astype(np.float32)

    def offered(self, region: int) -> Flags:
        """What may be recommended there; row 0 is no item."""
        offered: Flags = self.in_stock & self.regions[:, region]
        offered[0] = False
        return offered


@dataclass(frozen=True, slots=True)
class Interactions:
    """A row an event, in the order of `time_s` (Unix seconds). `rating`: 1 to 5."""

    user: Longs
    item: Longs
    rating: Singles
    time_s: Longs

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: Longs | slice) -> "Interactions":
        """These rows."""
        return Interactions(self.user[rows], self.item[rows], self.rating[rows], self.time_s[rows])


def joined(*parts: Interactions) -> Interactions:
    """One after the other."""
    columns = (np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(Interactions))
    return Interactions(*columns)


@dataclass(frozen=True, slots=True)
class Dataset:
    """All there is."""

    users: Users
    items: Items
    interactions: Interactions


@dataclass(frozen=True, slots=True)
class Offer:
    """What a shop knows of its items and no film data set tells: drawn, not real."""

    price: Singles
    in_stock: Flags
    regions: Flags


def drawn_offer(count: int, rng: np.random.Generator) -> Offer:
    """Prices (log-normal, half of them under 12), stock and regions of `count` items, and of row 0."""
    price = rng.lognormal(np.log(12), 0.5, count).astype(np.float32).round(2)
    in_stock, regions = rng.random(count) < STOCK_SHARE, rng.random((count, len(REGIONS))) < SOLD_SHARE
    price[0], in_stock[0], regions[0] = 0, False, False
    return Offer(price, in_stock, regions)
