"""The data set's columns, and its division by time."""

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.workloads.recommendation.catalogue import REGIONS, Interactions
from benchmarks.workloads.recommendation.movielens import GENRES, OCCUPATIONS, PROFILE, from_tables, rarest_genre
from benchmarks.workloads.recommendation.split import LIKED, cold_queries, latest_first, queries, split_by_time
from tests.benchmarks.workloads.recommendation.built import small


def tables() -> tuple[pa.Table, pa.Table, pa.Table]:
    users = pa.table(
        {
            "user_id": [1, 2, 3],
            "age": [24, 53, 30],
            "gender": ["M", "F", "F"],
            "occupation": ["technician", "other", "artist"],
            "zip_code": ["85711", "V3N4P", "02139"],
        }
    )
    items = pa.table(
        {"movie_id": [1, 2], "release_date": ["01-Jan-1995", None]}
        | {name: [int(name in ("Drama", "War")), int(name == "Drama")] for name in GENRES}
    )
    ratings = pa.table({"user_id": [2, 1, 1], "movie_id": [1, 2, 1], "rating": [4, 1, 5], "timestamp": [9, 5, 5]})
    return users, items, ratings


def test_tables_become_columns_with_nobody_in_row_0() -> None:
    found = from_tables(*tables())
    assert found.users.profile.shape == (4, len(PROFILE))
    assert not found.users.profile[0].any()
    assert found.users.profile[2, :2].tolist() == [53, 1]
    assert found.users.profile[3, PROFILE.index("artist")] == 1
    assert found.users.profile[1:, 2:].sum() == 3
    assert [REGIONS[each] for each in found.users.region[1:]] == ["west", "abroad", "north"]
    assert found.items.year.tolist() == [0, 95, 0]
    assert found.items.category.tolist() == [0, 1 + GENRES.index("War"), 1 + GENRES.index("Drama")]
    assert not found.items.offered(0)[0]
    assert found.interactions.time_s.tolist() == [5, 5, 9]
    assert found.interactions.item.tolist() == [1, 2, 1]
    assert len(OCCUPATIONS) == 21


def test_numbers_that_have_holes_are_refused() -> None:
    users, items, ratings = tables()
    with pytest.raises(ValueError, match="numbers must go from 1 to 2 in order"):
        from_tables(users.take([0, 2]), items, ratings)


def test_an_item_without_genre_is_of_unknown_category() -> None:
    genres = np.array([[0, 0, 0], [0, 1, 1], [0, 1, 0]], np.float32)
    assert rarest_genre(genres).tolist() == [0, 3, 2]


def test_periods_follow_each_other_and_divide_no_second() -> None:
    times = np.repeat(np.arange(25), 4)
    events = Interactions(np.ones(100, np.int64), np.arange(100), np.ones(100, np.float32), times)
    split = split_by_time(events)
    assert len(split.train) + len(split.validation) + len(split.test) == 100
    assert split.train.time_s.max() < split.validation_s
    assert split.validation.time_s.max() < split.test_s
    assert len(split.before_test) == len(split.train) + len(split.validation)


def test_a_query_knows_nothing_of_its_moment_or_later() -> None:
    split = split_by_time(small().interactions)
    everything = small().interactions
    asked = queries(split.before_test, split.test)
    assert len(asked) > 20
    for query in asked:
        own = everything.take(np.flatnonzero(everything.user == query.user))
        assert set(query.history) == set(own.item[own.time_s < query.time_s])
        later = (own.time_s >= query.time_s) & (own.rating >= LIKED)
        assert set(query.targets) == set(own.item[later]) - set(query.history)
        assert query.time_s >= split.test_s


def test_a_cold_query_is_of_somebody_who_was_never_there() -> None:
    events = Interactions(
        np.array([1, 1, 2, 2]), np.array([1, 2, 3, 4]), np.array([5, 5, 5, 1], np.float32), np.arange(4)
    )
    (cold,) = cold_queries(events.take(slice(0, 2)), events.take(slice(1, 4)))
    assert (cold.user, cold.time_s, cold.history.tolist(), cold.targets.tolist()) == (2, 2, [], [3])


def test_a_history_has_the_latest_first_and_none_twice() -> None:
    assert latest_first(np.array([4, 7, 4, 9, 7])).tolist() == [7, 9, 4]
