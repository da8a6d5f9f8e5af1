"""Small data of the workload's form, drawn: users that like one of two genres."""

import numpy as np

from benchmarks.workloads.recommendation.catalogue import (
    REGIONS,
    Dataset,
    Interactions,
    Items,
    Users,
    drawn_offer,
)  # fmt: skip
from benchmarks.workloads.recommendation.movielens import GENRES, PROFILE

USERS, ITEMS, EVENTS = 60, 80, 2_400


def small(seed: int = 3, *, users: int = USERS) -> Dataset:
    """Odd users like odd items: so many users, 80 items, 40 events a user, a minute apart."""
    events = users * EVENTS // USERS
    rng = np.random.default_rng(seed)
    genres = np.zeros((ITEMS + 1, len(GENRES)), np.float32)
    genres[np.arange(1, ITEMS + 1), np.arange(1, ITEMS + 1) % 2] = 1
    profile = np.zeros((users + 1, len(PROFILE)), np.float32)
    profile[1:, 0] = rng.integers(18, 70, users)
    offer = drawn_offer(ITEMS + 1, rng)
    year = np.concatenate([[0], rng.integers(50, 98, ITEMS)]).astype(np.float32)
    category = np.where(genres.any(axis=1), 1 + genres.argmax(axis=1), 0)
    items = Items(genres, category, offer.price, year, offer.in_stock, offer.regions)
    user = rng.integers(1, users + 1, events)
    alike = rng.random(events) < 0.9
    item = 1 + (2 * rng.integers(0, ITEMS // 2, events) + np.where(alike, user + 1, user) % 2)
    rating = np.where(item % 2 == user % 2, 5, 2).astype(np.float32)
    time_s = 1_000_000 + 60 * np.arange(events)
    known = Users(profile, rng.integers(0, len(REGIONS), users + 1))
    return Dataset(known, items, Interactions(user, item, rating, time_s))
