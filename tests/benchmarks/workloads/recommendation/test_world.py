"""The simulated shop: what is rated follows from true affinity, the same seed gives the same shop, and models know its items."""

import numpy as np
import pytest

from benchmarks.workloads.recommendation.features import item_rows
from benchmarks.workloads.recommendation.offline import session
from benchmarks.workloads.recommendation.world import World, make_world, normal_above, widened
from tests.benchmarks.workloads.recommendation.built import ITEMS as REAL
from tests.benchmarks.workloads.recommendation.built import small
from tests.benchmarks.workloads.recommendation.drawn import towers

ITEMS, USERS = 3_000, 2_000


def made(seed: int = 1) -> World:
    real = small()
    return make_world(real, item_rows(real.items, real.interactions, seed=1), items=ITEMS, users=USERS, seed=seed)


@pytest.fixture(scope="module")
def world() -> World:
    return made()


def test_what_is_rated_is_liked_more_than_what_is_drawn(world: World) -> None:
    events = world.dataset.interactions
    others = np.random.default_rng(2).integers(1, ITEMS + 1, len(events))
    rated = world.affinity(events.user, events.item)
    assert rated.mean() > world.affinity(events.user, others).mean() + 0.1
    liked = events.rating >= 4
    assert rated[liked].mean() > rated[~liked].mean() + 0.1
    assert abs(rated.mean() - liked.mean()) < 0.1, "affinity is the chance of a liking"


def test_the_chance_is_the_normal_distributions() -> None:
    from statistics import NormalDist

    values = np.linspace(-4, 4, 81, dtype=np.float32)
    exact = [1 - NormalDist().cdf(float(each)) for each in values]
    assert np.abs(normal_above(values) - exact).max() < 2e-4


def test_items_are_as_popular_as_their_templates(world: World) -> None:
    counts = np.bincount(small().interactions.item, minlength=REAL + 1)
    met = np.bincount(world.dataset.interactions.item, minlength=ITEMS + 1)
    known = counts[world.template[1:]]
    assert np.corrcoef(known, met[1:])[0, 1] > 0.1
    assert met[0] == 0


def test_a_history_is_the_users_own_the_latest_first(world: World) -> None:
    events = world.dataset.interactions
    for user in range(1, 50):
        mine = events.take(np.flatnonzero(events.user == user))
        assert world.history(user).tolist() == mine.item[np.argsort(mine.time_s, kind="stable")][::-1].tolist()


def test_the_same_seed_gives_the_same_shop_and_another_gives_another(world: World) -> None:
    again, other = made(), made(seed=2)
    for name in ("user", "item", "rating", "time_s"):
        mine = getattr(world.dataset.interactions, name)
        assert np.array_equal(mine, getattr(again.dataset.interactions, name))
        assert not np.array_equal(mine[:1000], getattr(other.dataset.interactions, name)[:1000])
    assert np.array_equal(world.features, again.features)


def test_a_widened_tower_knows_an_item_by_its_template(world: World) -> None:
    from benchmarks.workloads.recommendation.export import user_tower

    plain = user_tower(towers(np.random.default_rng(5)))
    user = np.random.default_rng(6).standard_normal((2, 43)).astype(np.float32)
    history = np.random.default_rng(7).integers(1, ITEMS + 1, (2, 50))
    known = session(plain)(user=user, history=world.template[history])
    assert np.array_equal(session(widened(plain, world.template))(user=user, history=history), known)
