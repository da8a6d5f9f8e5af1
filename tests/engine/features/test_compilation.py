"""A declared view becomes aggregates kept once each, or an error that names its view, feature and key."""

from __future__ import annotations

import dataclasses
from typing import Any

import pyarrow as pa
import pytest

from engine.duration import duration_text, duration_us
from engine.errors import SpecError
from engine.features.compilation import compile_view
from engine.features.compilation_windows import default_tile_us
from engine.features.declaration import FeatureSpec, FeatureViewSpec
from engine.features.view import Aggregate, AggregateKind, ColumnKind, Feature, FeatureKind, View
from engine.features.window import TILES_MAX, Window, WindowKind

SCHEMA = pa.schema(
    [
        ("card", pa.int64()),
        ("at", pa.timestamp("us", "UTC")),
        ("id", pa.string()),
        ("amount", pa.float64()),
        ("merchant", pa.string()),
        ("mcc", pa.int32()),
        ("ok", pa.bool_()),
        ("day", pa.date32()),
        ("raw", pa.binary()),
        ("tags", pa.list_(pa.string())),
    ]
)
HOUR, DAY = duration_us("1h"), duration_us("1d")


def feature(aggregation: str, **keys: Any) -> FeatureSpec:  # noqa: ANN401
    return FeatureSpec(aggregation=aggregation, **keys)  # type: ignore[arg-type]


def declared(features: dict[str, FeatureSpec] | None = None, **keys: Any) -> FeatureViewSpec:  # noqa: ANN401
    base: dict[str, Any] = {"source": "payments", "entity": "card", "event_time": "at"}
    return FeatureViewSpec(**base | keys, features=features or {"n": feature("count", window="1h")})


def compiled(features: dict[str, FeatureSpec] | None = None, **keys: Any) -> View:  # noqa: ANN401
    return compile_view("cards", declared(features, **keys), SCHEMA)


def only(view: View) -> Aggregate:
    (aggregate,) = view.aggregates
    return aggregate


def fault(features: dict[str, FeatureSpec] | None = None, **keys: Any) -> str:  # noqa: ANN401
    with pytest.raises(SpecError) as error:
        compiled(features, **keys)
    return error.value.message


def test_a_view_is_resolved_to_microseconds_and_indices() -> None:
    view = compiled(
        {"spent": feature("sum", column="amount", window="1h", where="ok")},
        event_id="id", lateness="5m", future="10s", max_age="2h", where="amount > 0", entities_max=5,
    )  # fmt: skip
    assert (view.name, view.source, view.entity, view.event_time, view.event_id) == (
        "cards",
        "payments",
        "card",
        "at",
        "id",
    )
    assert (view.lateness_us, view.future_us, view.max_age_us) == (300_000_000, 10_000_000, 7_200_000_000)
    assert view.entities_max == 5
    assert view.where is not None
    assert view.where.text == "amount > 0"
    assert [each.text for each in view.masks] == ["ok"]
    assert [(each.kind, each.value.text) for each in view.columns] == [(ColumnKind.NUMBER, "amount")]
    window = Window(WindowKind.SAWTOOTH, HOUR, duration_us("5m"))
    assert view.aggregates == (Aggregate(AggregateKind.SUM, 0, 0, window),)
    assert view.features == (Feature("spent", FeatureKind.AGGREGATE, (0,)),)
    assert len(view.fingerprint) == 64


@pytest.mark.parametrize(
    ("length", "tile"),
    [("1s", "1s"), ("11s", "1s"), ("12s", "1s"), ("24s", "2s"), ("61s", "1s"), ("1m", "5s"), ("10m", "30s"), ("1h", "5m"),
     ("1d", "2h"), ("7d", "12h"), ("30d", "2d"), ("90d", "5d"), ("67s", None), ("3601s", None)],
)  # fmt: skip
def test_a_tile_is_by_default_some_twelfth_of_its_window(length: str, tile: str | None) -> None:
    found = default_tile_us(duration_us(length))
    assert (None if found is None else duration_text(found)) == tile


def test_every_round_window_has_a_default_tile() -> None:
    for seconds in range(1, 61):
        assert default_tile_us(seconds * 1_000_000) is not None
    for minutes in (1, 2, 3, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 360, 720, 1440):
        assert default_tile_us(minutes * 60_000_000) is not None
    for days in range(1, 91):
        if days not in (67, 71, 73, 77, 79, 83, 89):  # no default tile over a day divides these a dozen times
            tile = default_tile_us(days * DAY)
            assert tile is not None
            assert days * DAY // tile + 1 <= TILES_MAX


def test_a_given_tile_and_kind_are_taken() -> None:
    sliding = only(compiled({"n": feature("count", window="1h", kind="sliding", tile="1m")}))
    assert sliding.window == Window(WindowKind.SLIDING, HOUR, 60_000_000)
    tumbling = only(compiled({"n": feature("count", window="1d", kind="tumbling")}))
    assert tumbling.window == Window(WindowKind.TUMBLING, DAY, DAY)
    assert only(compiled({"n": feature("count")})).window is None


def test_equal_aggregates_columns_and_masks_are_kept_once() -> None:
    view = compiled(
        {
            "mean": feature("mean", column="amount", window="1h"),
            "ratio": feature("ratio", column="amount", window="1h", against="30d"),
            "z": feature("z_score", column="amount", window="60m", against="30d", tile="5m"),
            "good": feature("count", window="1h", where="ok and amount>1"),
            "good_too": feature("sum", column="twice", window="1h", where="(ok and twice > 1)"),
            "good_sum": feature("sum", column="amount", window="1h", where="ok and  amount > 1"),
        },
        columns={"twice": "amount"},
    )
    assert len(view.columns) == 1
    assert [each.canonical for each in view.masks] == ["(and bool:'ok' (> number:'amount' number=1))"]
    kinds = sorted(each.kind for each in view.aggregates)
    assert kinds == ["count", "mean", "mean", "stddev", "sum"]
    by_name = {each.name: each for each in view.features}
    mean, long_mean = by_name["ratio"].of
    assert by_name["mean"].of == (mean,)
    assert by_name["z"].of[:2] == (mean, long_mean)
    assert view.aggregates[by_name["z"].of[2]].kind is AggregateKind.STDDEV
    assert view.aggregates[long_mean].window == Window(WindowKind.SAWTOOTH, 30 * DAY, 2 * DAY)
    assert by_name["good_too"].of == by_name["good_sum"].of
    assert by_name["ratio"].kind is FeatureKind.RATIO
    assert by_name["z"].kind is FeatureKind.Z_SCORE


@pytest.mark.parametrize("statistic", ["count", "sum", "mean"])
def test_a_ratio_compares_one_statistic_of_two_windows(statistic: str) -> None:
    column = None if statistic == "count" else "amount"
    view = compiled({"r": feature("ratio", column=column, statistic=statistic, window="1h", against="1d", where="ok")})
    short, long = (view.aggregates[index] for index in view.features[0].of)
    assert short.kind == long.kind == AggregateKind(statistic)
    assert (short.mask, long.mask) == (0, 0)
    assert short.window is not None
    assert long.window is not None
    assert (short.window.length_us, long.window.length_us) == (HOUR, DAY)


@pytest.mark.parametrize(
    ("aggregation", "column", "kind", "canonical", "text"),
    [
        ("sum", "amount", "number", "number:'amount'", False),
        ("sum", "ok", "number", "(number bool:'ok')", False),
        ("max", "at", "number", "(seconds timestamp:'at')", False),
        ("last", "merchant", "code", "text:'merchant'", True),
        ("first", "mcc", "number", "number:'mcc'", False),
        ("last", "day", "number", "(seconds timestamp:'day')", False),
        ("approx_distinct", "merchant", "hash", "text:'merchant'", True),
        ("approx_distinct", "raw", "hash", "bytes:'raw'", False),
        ("approx_distinct", "big", "hash", "(> number:'amount' number=100)", False),
        ("most_frequent", "merchant", "code", "text:'merchant'", True),
        ("most_frequent", "mcc", "code", "(integer number:'mcc')", False),
        ("most_frequent", "ok", "code", "(integer bool:'ok')", False),
        ("most_frequent", "hours", "code", "(integer (hour timestamp:'at'))", False),
        ("count", "amount", "number", "number:'amount'", False),
    ],
)
def test_a_column_is_read_as_its_aggregate_needs(
    aggregation: str, column: str, kind: str, canonical: str, text: bool
) -> None:
    view = compiled({"f": feature(aggregation, column=column)}, columns={"big": "amount > 100", "hours": "hour(at)"})
    (found,) = view.columns
    assert (found.kind, found.value.canonical, found.text) == (kind, canonical, text)
    assert view.masks == ()
    assert view.features[0].text is (text and aggregation != "approx_distinct")


@pytest.mark.parametrize("aggregation", ["count", "time_since_last", "decayed_count"])
def test_what_counts_values_of_a_text_counts_events_that_have_one(aggregation: str) -> None:
    keys = {"half_life": "1h"} if aggregation == "decayed_count" else {}
    view = compiled({"f": feature(aggregation, column="merchant", where="ok", **keys)})
    assert view.columns == ()
    assert [each.canonical for each in view.masks] == ["(and bool:'ok' (not (is_null text:'merchant')))"]
    alone = compiled({"f": feature(aggregation, column="merchant", **keys)})
    assert [each.canonical for each in alone.masks] == ["(not (is_null text:'merchant'))"]


def test_the_most_frequent_values_are_features_of_their_own() -> None:
    view = compiled({"top": feature("most_frequent", column="merchant", window="1d", k=3), "n": feature("count")})
    assert [(each.name, each.rank, each.text) for each in view.features] == [
        ("top_1", 0, True), ("top_2", 1, True), ("top_3", 2, True), ("n", 0, False),
    ]  # fmt: skip
    (top,) = (each for each in view.aggregates if each.kind is AggregateKind.TOP)
    assert (top.k, top.slots) == (3, 16)
    assert only(compiled({"t": feature("most_frequent", column="mcc", k=20)})).slots == 20
    assert only(compiled({"d": feature("approx_distinct", column="mcc")})).slots == 64
    assert only(compiled({"d": feature("approx_distinct", column="mcc", slots=4096)})).slots == 4096


def test_decayed_aggregates_have_a_half_life_and_no_window() -> None:
    view = compiled(
        {"n": feature("decayed_count", half_life="1h"), "s": feature("decayed_sum", column="amount", half_life="1d")}
    )
    assert {(each.kind, each.half_life_us, each.column) for each in view.aggregates} == {
        (AggregateKind.DECAYED, HOUR, None), (AggregateKind.DECAYED, DAY, 0),
    }  # fmt: skip


def test_expressions_are_over_earlier_features_and_what_the_request_brings() -> None:
    view = compiled(
        {
            "mean": feature("mean", column="amount", window="7d"),
            "where": feature("last", column="merchant"),
            "times": FeatureSpec(expression="paid / mean"),
            "same": FeatureSpec(expression="shop == where"),
            "odd": FeatureSpec(expression="times > 3 and not same"),
            "shown": FeatureSpec(expression="coalesce(where, 'none')"),
        },
        request={"paid": "number", "shop": "text"},
    )
    by_name = {each.name: each for each in view.features}
    assert [(each.name, each.text) for each in view.request] == [("paid", False), ("shop", True)]
    assert by_name["odd"].kind is FeatureKind.EXPRESSION
    assert by_name["odd"].expression is not None
    assert by_name["odd"].expression.names == {"times", "same"}
    assert by_name["odd"].expression.numeric
    assert not by_name["odd"].text
    assert by_name["shown"].text


def test_derived_columns_are_over_earlier_ones_and_read_the_source_alone() -> None:
    view = compiled(
        {"s": feature("sum", column="loud", window="1h", where="tall")},
        columns={"quiet": "ln(amount)", "loud": "quiet * 2", "tall": "loud > 4"},
    )
    assert view.columns[0].value.names == view.masks[0].names == {"amount"}
    assert view.columns[0].value.canonical == "(* (ln number:'amount') number=2)"


@pytest.mark.parametrize(
    ("features", "keys", "ttl"),
    [
        ({"n": feature("count", window="1h")}, {}, "1h5m"),
        ({"n": feature("count", window="1d", kind="tumbling")}, {}, "1d"),
        ({"n": feature("count", window="1h")}, {"max_age": "3h"}, "3h"),
        ({"n": feature("decayed_count", half_life="1h")}, {}, "20h"),
        ({"n": feature("decayed_count", half_life="1000d")}, {}, "3650d"),
        ({"n": feature("count", window="1h"), "l": feature("last", column="amount")}, {}, "90d"),
        ({"n": feature("count", window="90d")}, {}, "95d"),
        ({"n": feature("count", window="1h")}, {"ttl": "1h"}, "1h"),
        ({"l": feature("last", column="amount")}, {"ttl": "1s"}, "1s"),
    ],
)
def test_an_entity_is_kept_as_long_as_a_feature_looks_back(features: Any, keys: Any, ttl: str) -> None:  # noqa: ANN401
    assert compiled(features, **keys).ttl_us == duration_us(ttl)


SPENT = feature("sum", column="amount", window="1h", where="ok")
COUNTED = feature("count", window="1d")
FINGERPRINT = compiled({"a": SPENT, "b": COUNTED}, ttl="2d").fingerprint


@pytest.mark.parametrize(
    ("features", "keys"),
    [
        ({"renamed": SPENT, "b": COUNTED}, {}),
        ({"b": COUNTED, "a": SPENT}, {}),
        ({"a": SPENT, "b": COUNTED, "c": SPENT}, {}),
        ({"a": SPENT, "b": COUNTED, "c": FeatureSpec(expression="a / b")}, {}),
        ({"a": SPENT, "b": COUNTED}, {"max_age": "1h", "entities_max": 7, "request": {"x": "number"}}),
        ({"a": SPENT, "b": COUNTED}, {"columns": {"unused": "amount + 1"}}),
        ({"a": dataclasses.replace(SPENT, where=" (ok)"), "b": COUNTED}, {}),
    ],
)
def test_the_fingerprint_stays_where_the_state_does(features: Any, keys: Any) -> None:  # noqa: ANN401
    assert compiled(features, **{"ttl": "2d"} | keys).fingerprint == FINGERPRINT


@pytest.mark.parametrize(
    ("features", "keys"),
    [
        ({"a": SPENT}, {}),
        ({"a": dataclasses.replace(SPENT, window="2h"), "b": COUNTED}, {}),
        ({"a": dataclasses.replace(SPENT, tile="1m"), "b": COUNTED}, {}),
        ({"a": dataclasses.replace(SPENT, kind="sliding"), "b": COUNTED}, {}),
        ({"a": dataclasses.replace(SPENT, where="not ok"), "b": COUNTED}, {}),
        ({"a": dataclasses.replace(SPENT, column="mcc"), "b": COUNTED}, {}),
        *(({"a": SPENT, "b": COUNTED}, keys) for keys in (
            {"ttl": "3d"}, {"lateness": "1s"}, {"future": "1s"}, {"where": "ok"}, {"event_id": "id"}, {"entity": "id"},
            {"source": "other"},
        )),
    ],
)  # fmt: skip
def test_the_fingerprint_changes_with_what_the_state_means(features: Any, keys: Any) -> None:  # noqa: ANN401
    assert compiled(features, **{"ttl": "2d"} | keys).fingerprint != FINGERPRINT


def test_the_fingerprint_changes_with_a_column_s_type() -> None:
    wider = pa.schema([each if each.name != "amount" else pa.field("amount", pa.float32()) for each in SCHEMA])
    spec = declared({"a": SPENT, "b": COUNTED}, ttl="2d")
    assert compile_view("cards", spec, wider).fingerprint != FINGERPRINT
    longer = SCHEMA.append(pa.field("new", pa.string()))
    assert compile_view("cards", spec, longer).fingerprint == FINGERPRINT


WRONG: list[tuple[dict[str, FeatureSpec], dict[str, Any], str]] = [
    ({}, {"entity": "crad"}, "entity: unknown column 'crad'; nearest: 'card'"),
    ({}, {"entity": "amount"}, "entity: must be a column of whole numbers, strings or bytes, got 'amount' of double"),
    ({}, {"event_time": "merchant"}, "event_time: must be a column of timestamps or int64 microseconds, got"),
    ({}, {"event_id": "amount"}, "event_id: must be a column of whole numbers or strings, got 'amount' of double"),
    ({}, {"where": "amuont > 1"}, "where: unknown name 'amuont'; nearest: 'amount'"),
    ({}, {"where": "amount + 1"}, "where: a condition is a bool, got the number 'amount + 1'"),
    ({}, {"where": "tags == 'a'"}, "where: unknown name 'tags'"),
    ({}, {"columns": {"amount": "1"}}, "columns.amount: the source has a column of this name"),
    ({}, {"columns": {"a b": "1"}}, "columns.a b: a derived column's name has letters"),
    ({}, {"columns": {"abs": "1"}}, "columns.abs: a derived column's name"),
    ({}, {"columns": {"a": "b + 1", "b": "1"}}, "columns.a: unknown name 'b'"),
    ({}, {"lateness": "soon"}, "lateness: expected a duration such as '10s', '5m', '1h30m' or '7d', got 'soon'"),
    ({}, {"lateness": "91d"}, "lateness: must be from 0s to 90d, got '91d'"),
    ({}, {"max_age": "0s"}, "max_age: must be from 1us to 3650d, got '0s'"),
    ({}, {"ttl": "59m"}, "ttl: must be at least the longest window, 1h, got 59m"),
    ({}, {"ttl": "1h", "max_age": "2h"}, "ttl: must be at least max_age, 2h, got 1h"),
    ({}, {"entities_max": 0}, "entities_max: must be from 1 to"),
    ({}, {"request": {"n": "number"}}, "request.n: a feature has this name too"),
    ({}, {"request": {"abs": "number"}}, "request.abs: the name 'abs' is taken"),
    ({"1st": feature("count")}, {}, "features.1st: a name has letters, digits and '_', no digit first"),
    ({"né": feature("count")}, {}, "a name has letters, digits and '_'"),
    ({"n" * 257: feature("count")}, {}, "at most 256"),
    ({"card": feature("count")}, {}, "features.card: the name 'card' is taken"),
    ({"status": feature("count")}, {}, "features.status: the name 'status' is taken"),
    ({"f": FeatureSpec()}, {}, "features.f: give either 'aggregation' or 'expression'"),
    ({"f": feature("count", expression="1")}, {}, "features.f: give either 'aggregation' or 'expression'"),
    ({"f": FeatureSpec(expression="1", window="1h")}, {}, "features.f.window: an expression takes no 'window'"),
    ({"f": FeatureSpec(expression="g"), "g": feature("count")}, {}, "features.f.expression: unknown name 'g'"),
    ({"f": FeatureSpec(expression="g"), "g": feature("count")}, {}, "'g' is declared later"),
    ({"f": FeatureSpec(expression="amount")}, {}, "features.f.expression: unknown name 'amount'"),
    ({"f": FeatureSpec(expression="timestamp('2026-01-01')")}, {}, "a feature is a number, bool or text, got timestamp"),
    ({"top": feature("most_frequent", column="mcc", k=2), "top_1": feature("count")}, {}, "the name 'top_1'"),
    ({"f": feature("sum", window="1h")}, {}, "features.f.column: sum needs a column"),
    ({"f": feature("sum", column="amout")}, {}, "features.f.column: unknown column 'amout'; nearest: 'amount'"),
    ({"f": feature("sum", column="merchant")}, {}, "sum takes a column of bool or number, got 'merchant', a text"),
    ({"f": feature("mean", column="at")}, {}, "got 'at', a timestamp"),
    ({"f": feature("last", column="raw")}, {}, "got 'raw', a bytes"),
    ({"f": feature("count", column="tags")}, {}, "column 'tags' is list<item: string>, which features cannot read"),
    ({"f": feature("most_frequent", column="amount")}, {}, "most_frequent counts texts and whole numbers, got 'amount'"),
    ({"f": feature("most_frequent", column="at")}, {}, "got 'at', a timestamp"),
    ({"f": feature("count", half_life="1h")}, {}, "count takes no 'half_life'; it belongs to decayed_count, decayed_sum"),
    ({"f": feature("count", slots=16)}, {}, "features.f.slots: count takes no 'slots'"),
    ({"f": feature("count", k=2)}, {}, "features.f.k: count takes no 'k'; it belongs to most_frequent"),
    ({"f": feature("count", against="1h")}, {}, "features.f.against: count takes no 'against'; it belongs to ratio, z_score"),
    ({"f": feature("count", statistic="sum")}, {}, "features.f.statistic: count takes no 'statistic'"),
    ({"f": feature("z_score", column="mcc", window="1h", against="1d", statistic="sum")}, {}, "z_score takes no 'statistic'"),
    ({"f": feature("decayed_count")}, {}, "features.f.half_life: decayed_count needs 'half_life'"),
    ({"f": feature("decayed_count", half_life="0s")}, {}, "features.f.half_life: must be from 1ms"),
    ({"f": feature("decayed_count", half_life="1h", window="1h")}, {}, "features.f.window: decayed_count looks at all events"),
    ({"f": feature("count", tile="1m")}, {}, "features.f.tile: 'tile' needs a 'window'"),
    ({"f": feature("count", kind="sliding")}, {}, "features.f.kind: 'kind' needs a 'window'"),
    ({"f": feature("count", window="91d")}, {}, "features.f.window: must be from 1s to 90d, got '91d'"),
    ({"f": feature("count", window="500ms")}, {}, "features.f.window: must be from 1s to 90d, got '500ms'"),
    ({"f": feature("count", window="1s500ms")}, {}, "features.f.window: must be whole seconds, got '1s500ms'"),
    ({"f": feature("count", window="67s")}, {}, "no default tile divides 67s into 12 to 62 tiles"),
    ({"f": feature("count", window="1h", tile="7m")}, {}, "must divide the window, 1h, into at most 62 tiles, got '7m'"),
    ({"f": feature("count", window="1h", tile="30s")}, {}, "into at most 62 tiles, got '30s'"),
    ({"f": feature("count", window="2s", tile="1s500ms")}, {}, "features.f.tile: must be whole seconds"),
    ({"f": feature("count", window="1h", tile="1h1s")}, {}, "features.f.tile: must divide the window"),
    ({"f": feature("count", window="1h", kind="tumbling", tile="1m")}, {}, "features.f.tile: a tumbling window is one tile"),
    ({"f": feature("last", column="mcc", window="1h", kind="sliding")}, {}, "features.f.kind: last takes sawtooth and tumbling"),
    ({"f": feature("ratio", column="amount", against="1d")}, {}, "features.f.window: ratio needs a 'window'"),
    ({"f": feature("ratio", column="amount", window="1h")}, {}, "features.f.against: ratio needs 'against'"),
    ({"f": feature("ratio", window="1h", against="1d")}, {}, "features.f.column: ratio of statistic 'mean' needs a column"),
    ({"f": feature("ratio", column="merchant", window="1h", against="1d")}, {}, "got 'merchant', a text"),
    ({"f": feature("ratio", column="amount", window="1h", against="60m")}, {}, "f.against: must be longer than the window"),
    ({"f": feature("approx_distinct", column="mcc", slots=48)}, {}, "must be a power of two from 16 to 4096, got 48"),
    ({"f": feature("approx_distinct", column="mcc", slots=8192)}, {}, "must be a power of two from 16 to 4096, got 8192"),
    ({"f": feature("approx_distinct", column="mcc", slots=0)}, {}, "must be a power of two from 16 to 4096, got 0"),
    ({"f": feature("most_frequent", column="mcc", slots=65)}, {}, "features.f.slots: must be from 1 to 64, got 65"),
    ({"f": feature("most_frequent", column="mcc", k=65)}, {}, "features.f.k: must be from 1 to 64, got 65"),
    ({"f": feature("most_frequent", column="mcc", k=5, slots=4)}, {}, "must be from 1 to the number of slots, 4, got 5"),
    ({"f": feature("most_frequent", column="mcc", k=0)}, {}, "features.f.k: must be from 1 to"),
    ({"f": feature("count", where="ok > 1")}, {}, "features.f.where: '>' takes number or text or timestamp, got bool"),
    ({f"f{index}": feature("count") for index in range(1025)}, {}, "features: a view has at most 1024 features, got 1025"),
]  # fmt: skip


@pytest.mark.parametrize(("features", "keys", "said"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_view_is_refused_with_its_key(
    features: dict[str, FeatureSpec], keys: dict[str, Any], said: str
) -> None:
    message = fault(features, **keys)
    assert message.startswith("feature view 'cards': ")
    assert said in message


def test_a_view_without_features_is_refused() -> None:
    with pytest.raises(SpecError, match="features: a view has at least one feature"):
        compile_view("cards", FeatureViewSpec("payments", "card", "at", {}), SCHEMA)


def test_a_fault_is_told_where_the_spec_was_written() -> None:
    spec = declared({"f": feature("sum", column="merchant")})
    with pytest.raises(SpecError, match=r"spec.yaml: feature_views.cards.features.f.column: sum takes"):
        compile_view("cards", spec, SCHEMA, lambda key: f"spec.yaml: feature_views.cards.{key}")


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.uint64(), pa.int8()], ids=str)
def test_entities_are_whole_numbers_texts_or_bytes(kind: pa.DataType) -> None:
    schema = pa.schema([("card", kind), ("at", pa.int64())])
    assert compile_view("cards", declared(), schema).entity == "card"


def test_columns_with_any_name_are_read_by_it() -> None:
    schema = pa.schema([("card", pa.int64()), ("at", pa.int64()), ("amount (EUR)", pa.float64())])
    view = compile_view("cards", declared({"s": feature("sum", column="amount (EUR)")}), schema)
    assert view.columns[0].value.names == {"amount (EUR)"}
