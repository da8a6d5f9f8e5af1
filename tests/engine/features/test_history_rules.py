"""What training sets promise: nothing of the future, all columns carried, other judges agree, and bad input is named."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from engine.errors import InvalidArgument
from engine.features.compilation import compile_view
from engine.features.declaration import FeatureSpec, FeatureViewSpec
from engine.features.history import History
from engine.features.view import View
from engine.features.window import SECOND_US, WindowKind
from tests.engine.features.streams import WINDOWS, random_stream, table_of, whole_view

S = SECOND_US
SCHEMA = pa.schema({"card": pa.string(), "at": pa.timestamp("us", "UTC"), "amount": pa.float64(), "shop": pa.string()})
NUMBERED = pa.schema({"card": pa.int64(), "at": pa.int64()})


def _view(features: dict[str, FeatureSpec], **changes: Any) -> View:  # noqa: ANN401
    given = {"lateness": "10s", "ttl": "30d"} | changes
    return compile_view("cards", FeatureViewSpec("tx", "card", "at", features, **given), SCHEMA)


def _table(*rows: tuple[str | None, float | None, float | None], **more: Any) -> pa.Table:  # noqa: ANN401
    """Rows of card, seconds since the epoch, and amount; all bought at 'x'."""
    at = pa.array([None if s is None else round(s * S) for _, s, _ in rows], pa.timestamp("us", "UTC"))
    columns = {"card": pa.array([card for card, _, _ in rows], pa.string()), "at": at}
    return pa.table(
        columns | {"amount": pa.array([a for _, _, a in rows], pa.float64()), "shop": ["x"] * len(rows)} | more
    )


def _asked(*rows: tuple[str | None, float]) -> pa.Table:
    return _table(*((card, at, None) for card, at in rows)).select(["card", "at"])


COUNT = FeatureSpec("count", window="60s", tile="1s")
TOTAL = FeatureSpec("sum", column="amount", window="60s", tile="1s")


def test_only_what_lies_strictly_before_the_query_counts() -> None:
    history = History(_view({"n": COUNT, "total": TOTAL}), _table(("a", 100, 1.0), ("a", 101, 2.0)))
    found = history.training_set(_asked(("a", 100), ("a", 100.000001), ("a", 101), ("a", 101.000001), ("b", 500)))
    assert found.column("n").to_pylist() == [None, 1, 1, 2, None]
    assert found.column("total").to_pylist() == [None, 1, 1, 3, None]


def test_what_had_not_arrived_does_not_count() -> None:
    table = _table(("a", 100, 1.0), ("a", 101, 2.0), ("a", 99, 4.0), loaded=[100 * S, 110 * S, 120 * S])
    view = _view({"total": TOTAL})
    asked = _asked(*(("a", at) for at in (100.5, 109, 110, 119, 120)))
    assert History(view, table).training_set(asked).column("total").to_pylist() == [5, 7, 7, 7, 7]
    found = History(view, table, arrival="loaded")
    assert found.training_set(asked).column("total").to_pylist() == [1, 1, 3, 3, 7]
    late = History(replace(view, lateness_us=S), table, arrival="loaded")
    assert late.training_set(asked).column("total").to_pylist() == [1, 1, 3, 3, 3]
    assert late.verdicts["late"] == 1


def test_arrivals_out_of_order_in_the_table_are_put_in_order() -> None:
    table = _table(("a", 100, 1.0), ("a", 100, 2.0), ("a", 100, 3.0), loaded=[103 * S, 101 * S, 102 * S])
    history = History(_view({"last": FeatureSpec("last", column="amount")}), table, arrival="loaded")
    found = history.training_set(_asked(*(("a", at) for at in (101, 102, 103))))
    assert found.column("last").to_pylist() == [2, 3, 1]


def test_columns_are_carried_and_rows_keep_their_order() -> None:
    queries = _asked(("b", 300), ("a", 102), ("b", 50), ("a", 90)).append_column("label", pa.array([1, 0, 1, 0]))
    history = History(_view({"n": COUNT}), _table(("a", 100, 1.0), ("b", 290, 1.0)))
    found = history.training_set(queries, status=True)
    assert found.column_names == ["card", "at", "label", "n", "cards_status", "cards_event_time"]
    assert found.select(queries.column_names).equals(queries)
    assert found.column("n").to_pylist() == [1, 1, None, None]
    assert found.column("cards_status").to_pylist() == ["present", "present", "missing", "missing"]
    assert found.column("cards_event_time").to_pylist()[:2] == [datetime.fromtimestamp(at, UTC) for at in (290, 100)]


def test_other_names_units_and_types_of_queries_are_taken() -> None:
    history = History(_view({"n": COUNT}), _table(("a", 100, 1.0), ("b", 100, 1.0)))
    cards = pa.chunked_array([["a"], ["b", "c", None]])
    for at in (
        pa.array([101_000] * 4, pa.timestamp("ms")),
        pa.array([101 * S] * 4),
        pa.array([101] * 4, pa.timestamp("s", "UTC")),
    ):
        for keys in (cards, cards.dictionary_encode(), cards.cast(pa.large_string())):
            queries = pa.table({"card": keys, "event_timestamp": at})
            found = history.training_set(queries, timestamp="event_timestamp")
            assert found.column("n").to_pylist() == [1, 1, None, None]


def test_whole_number_entities_are_matched_whatever_their_width() -> None:
    spec = FeatureViewSpec("tx", "card", "at", {"n": FeatureSpec("count")})
    table = pa.table({"card": pa.array([7, 8, 7]), "at": [S, S, S]})
    history = History(compile_view("v", spec, NUMBERED), table)
    queries = pa.table({"card": pa.array([7, 9], pa.int16()), "at": pa.array([2 * S, 2 * S], pa.uint64())})
    assert history.training_set(queries).column("n").to_pylist() == [2, None]


def test_a_history_of_nothing_knows_nothing() -> None:
    view = _view({"n": COUNT, "total": TOTAL, "top": FeatureSpec("most_frequent", column="shop", window="60s")})
    empty = _table().cast(SCHEMA)
    for arrival in (None, "at"):
        history = History(view, empty, arrival=arrival)
        found = history.training_set(_asked(("a", 1), ("b", 2)), status=True)
        assert found.column("cards_status").to_pylist() == ["missing"] * 2
        assert found.column("top").to_pylist() == [None, None]
    assert History(view, _table(("a", 1, 1.0))).training_set(_asked()).num_rows == 0
    nulls = History(view, _table((None, 1, 1.0), ("a", None, 1.0)))
    assert (nulls.verdicts["null entity"], nulls.verdicts["null time"], nulls.verdicts["applied"]) == (1, 1, 0)


def test_bad_queries_are_named() -> None:
    spec = {"n": COUNT, "share": FeatureSpec(expression="limit / n")}
    history = History(_view(spec, request={"limit": "number", "place": "text"}), _table(("a", 100, 1.0)))
    given = _asked(("a", 101)).append_column("limit", pa.array([2.0])).append_column("place", pa.array(["x"]))
    assert history.training_set(given).column("share").to_pylist() == [2]
    worse: list[tuple[pa.Table, str]] = [
        (given.drop_columns(["card"]), "no columns 'card'"),
        (given.drop_columns(["place"]), "no columns 'place'"),
        (given.append_column("at", given.column("at")), "2 columns 'at'"),
        (given.append_column("n", pa.array([1])), "have a column 'n'"),
        (given.set_column(0, "card", pa.array([1.5])), "entities are large_string, got double"),
        (
            given.set_column(1, "at", pa.array(["noon"])),
            "column 'at': expected a timestamp or whole microseconds, got large_string",
        ),
        (given.set_column(1, "at", pa.array([None], pa.timestamp("us"))), "column 'at': 1 of 1 query times are null"),
        (given.set_column(2, "limit", pa.array(["2"])), "request input 'limit': expected numbers"),
        (given.set_column(3, "place", pa.array([2])), "request input 'place': expected texts"),
    ]
    for queries, message in worse:
        with pytest.raises(InvalidArgument) as error:
            history.training_set(queries)
        assert message in error.value.message
    whole = History(
        compile_view("v", FeatureViewSpec("tx", "card", "at", {"n": FeatureSpec("count")}), NUMBERED),
        NUMBERED.empty_table(),
    )
    with pytest.raises(InvalidArgument, match="entities: Integer value 9223372036854775808 not in range"):
        whole.at(pa.array([1 << 63], pa.uint64()), np.array([1]))
    with pytest.raises(InvalidArgument, match="column 'at': Integer value 9223372036854775808 not in range"):
        whole.training_set(pa.table({"card": [1], "at": pa.array([1 << 63], pa.uint64())}))
    with pytest.raises(InvalidArgument, match="no request input 'limt'; nearest: 'limit'"):
        history.at(pa.array(["a"]), np.array([1]), request={"limt": pa.array([1.0])})
    with pytest.raises(InvalidArgument, match="2 values, expected 1"):
        history.at(pa.array(["a"]), np.array([1]), request={"limit": pa.array([1.0, 2.0])})
    nothing_given = history.at(pa.array(["a"]), np.array([101 * S]))
    assert nothing_given.features["share"].to_pylist() == [None]


def test_bad_tables_are_named() -> None:
    view, table = _view({"total": TOTAL}), _table(("a", 100, 1.0))
    worse: list[tuple[pa.Table, dict[str, str], str]] = [
        (table.drop_columns(["amount"]), {}, "no columns 'amount'"),
        (table, {"arrival": "loaded"}, "no columns 'loaded'"),
        (table.append_column("loaded", pa.nulls(1, pa.int64())), {"arrival": "loaded"}, "1 arrivals are null"),
        (table.append_column("p", pa.nulls(1, pa.int64())), {"partition": "p"}, "column 'p': a partition is null"),
        (
            table.set_column(1, "at", pa.array([1.5])),
            {},
            "column 'at': expected a timestamp or whole microseconds, got double",
        ),
        (
            table.set_column(2, "amount", pa.array([[1.0]])),
            {},
            "column 'amount': expected number, got list<item: double>",
        ),
        (table.set_column(2, "amount", pa.array(["1"])), {}, "column 'amount': expected number, got string"),
    ]
    for wrong, given, message in worse:
        with pytest.raises(InvalidArgument) as error:
            History(view, wrong, **given)  # type: ignore[arg-type]
        assert message in error.value.message


@pytest.mark.parametrize("times", [[1 << 62, 100 * S], [-(1 << 62), 100 * S], [-5, 100 * S]])
def test_times_beyond_all_years_count_for_nothing(times: list[int]) -> None:
    table = pa.table({"card": ["a", "a"], "at": times, "amount": [1.0, 2.0], "shop": ["x", "y"]})
    history = History(_view({"total": TOTAL}), table)
    assert history.verdicts["out of time"] == 1
    past = history.at(pa.array(["a"] * 4), np.array([101 * S, 1 << 62, -(1 << 62), (1 << 63) - 1]))
    assert past.features["total"].to_pylist() == [2, None, None, None]


def test_threads_and_parts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    view, table = whole_view(), table_of(random_stream(2, rows=600))
    queries = pa.table({
        "card": table.column("card"), "at": table.column("appended"), "limit": [1.0] * 600, "place": ["home"] * 600,
    })  # fmt: skip
    one = History(view, table, threads=1).training_set(queries)
    monkeypatch.setattr("engine.features.history.PART_QUERIES", 7)
    assert one.equals(History(view, table, threads=4).training_set(queries))


def _duckdb(
    table: pa.Table, queries: pa.Table, kind: WindowKind, length: int, tile: int
) -> list[tuple[float | None, ...]]:
    head, low = f"(q.at // {tile})", f"((q.at - {length}) // {tile} * {tile})"
    if kind is not WindowKind.SAWTOOTH:
        low = f"({head} - {length // tile if kind is WindowKind.SLIDING else 0}) * {tile}"
    high = f"{head} * {tile}" if kind is WindowKind.SLIDING else "q.at"
    found = duckdb.connect()
    found.register("events", table)
    found.register("queries", queries)
    return found.execute(f"""
        select count(e.amount), coalesce(sum(e.amount), 0), min(e.amount), max(e.amount), avg(e.amount)
        from queries q left join events e on e.card = q.card and e.at >= {low} and e.at < {high}
        group by q.number order by q.number
    """).fetchall()


@pytest.mark.parametrize(
    "window", [each for each in WINDOWS if each is not None], ids=lambda w: f"{w.kind}-{w.length_us // S}"
)
def test_duckdb_agrees_on_windows_of_a_large_table(window: Any) -> None:  # noqa: ANN401
    rng = np.random.default_rng(window.length_us)
    cards = pa.array([f"c{i}" for i in range(20)])
    table = pa.table({
        "card": cards.take(pa.array(rng.integers(0, 20, 20_000))), "at": rng.integers(0, 2000 * S, 20_000),
        "amount": pa.array(rng.gamma(2, 30, 20_000), mask=rng.random(20_000) < 0.1), "shop": ["x"] * 20_000,
    })  # fmt: skip
    queries = pa.table({
        "card": cards.take(pa.array(rng.integers(0, 20, 2000))), "at": rng.integers(100 * S, 2500 * S, 2000),
        "number": range(2000),
    })  # fmt: skip
    names = {"n": "count", "total": "sum", "low": "min", "high": "max", "mean": "mean"}
    declared = {"window": f"{window.length_us // S}s", "kind": window.kind.value, "tile": f"{window.tile_us // S}s"}
    if window.kind is WindowKind.TUMBLING:
        del declared["tile"]
    view = _view({name: FeatureSpec(kind, column="amount", **declared) for name, kind in names.items()})  # type: ignore[arg-type]
    found = History(view, table).training_set(queries).select(list(names))
    wanted = _duckdb(table, queries, window.kind, window.length_us, window.tile_us)
    for column, name in enumerate(names):
        ours = np.array(found.column(name).to_pylist(), float)
        np.testing.assert_allclose(ours, np.array([each[column] for each in wanted], float), rtol=1e-9)
