"""What a request leaves for a log: rows, words, versions, conditions row by row, every datatype in each column that takes it."""

from __future__ import annotations

import datetime
import random
import weakref
from typing import Any

import numpy as np
import orjson
import pytest

from engine import InvalidArgument, Signature, Tensor
from engine.graph.call import Values
from engine.graph.plan import Condition, Fallback, Node, Plan
from engine.graph.port import Target
from engine.graph.record_rows import RecordRows, versions_of
from engine.log.schema import TYPES, arrow_schema
from engine.tensor import DATATYPES
from tests.engine.graph.recording import DECISION, decision, made, maker, response, stage, tensor
from tests.engine.graph.splits import Plus, Split, running


def left(values: Values, columns: dict[str, int | str], when: Condition | None = None) -> RecordRows | None:
    """What a request with these values leaves."""
    return maker(columns, when).of(values, response(), 5)


def test_tensor_gives_a_row_for_each_of_its_rows_and_the_rest_is_repeated() -> None:
    rows = decision(4, rows=3)
    assert [(each["request"], each["card"], each["amount"]) for each in made(rows)] == [
        ("4", "card-40", 4.0), ("4", "card-41", 4.1), ("4", "card-42", 4.2),
    ]  # fmt: skip
    lone = left([tensor("FP64", [1.0, 2.0]), tensor("FP32", [9.0])], {"amount": 0, "score": 1})
    assert lone is not None
    assert [(each["amount"], each["score"]) for each in made(lone)] == [(1.0, 9.0), (2.0, 9.0)]
    words = left([], {"request": "$id"})
    assert words is not None
    assert made(words) == [{"request": "7"}]


def test_tensor_that_is_not_there_is_null_and_rows_that_disagree_are_refused() -> None:
    rows = left([None, tensor("FP64", [1.0, 2.0])], {"score": 0, "amount": 1})
    assert rows is not None
    assert made(rows) == [{"score": None, "amount": 1.0}, {"score": None, "amount": 2.0}]
    odd = left([tensor("FP64", [1.0, 2.0]), tensor("FP32", [1.0, 2.0, 3.0])], {"amount": 0, "score": 1})
    assert odd is not None
    with pytest.raises(InvalidArgument, match="column 'amount': 2 values for 3 rows"):
        made(odd)


def test_condition_chooses_rows_like_a_plain_loop() -> None:
    rng = random.Random(8)
    for _ in range(200):
        count = rng.randint(1, 9)
        scores = [rng.choice([0.1, 0.5, 0.9, float("nan")]) for _ in range(count)]
        values: Values = [tensor("FP64", [float(row) for row in range(count)]), tensor("FP64", scores)]
        rows = left(values, {"amount": 0}, Condition((1,), ">=", 0.5))
        wanted = [float(row) for row in range(count) if scores[row] >= 0.5]
        assert ([] if rows is None else [each["amount"] for each in made(rows)]) == wanted
        if rows is not None:
            assert [made(each)[0]["amount"] for each in rows.singles()] == wanted


def test_condition_of_one_element_or_none_is_for_all_rows() -> None:
    amounts = tensor("FP64", [1.0, 2.0])
    for flag, count in ((tensor("BOOL", [True]), 2), (tensor("BOOL", [False]), 0), (None, 0)):
        rows = left([amounts, flag], {"amount": 0}, Condition((1,), "", 0.0))
        assert (0 if rows is None else rows.count) == count


def test_many_requests_make_one_batch_like_one_by_one() -> None:
    rng = random.Random(9)
    several = [decision(number, rows=rng.randint(1, 4)) for number in range(50)]
    several[7].tensors[2] = several[30].tensors[1] = None
    schema = arrow_schema(
        {"request": "string", "card": "string", "amount": "float64", "score": "float32", "at": "timestamp"}
    )
    together = DECISION.batch(several, schema).to_pylist()
    assert together == [row for each in several for row in made(each)]


CASES: list[tuple[str, list[Any], str, list[Any]]] = [
    ("BOOL", [True, False], "bool", [True, False]),
    ("BYTES", [b"a", "é".encode()], "string", ["a", "é"]),
    ("BYTES", [b"\xff", b""], "binary", [b"\xff", b""]),
    ("FP16", [0.5, float("inf")], "float32", [0.5, float("inf")]),
    ("FP32", [0.1], "float64", [float(np.float32(0.1))]),
    ("FP64", [0.1], "float32", [float(np.float32(0.1))]),
    ("BF16", [0x3F80, 0xC000], "float32", [1.0, -2.0]),
    ("BF16", [0x3F80], "float64", [1.0]),
    ("UINT8", [255], "int16", [255]),
    ("INT64", [-3, 127], "int8", [-3, 127]),
    ("UINT64", [2**63 - 1], "int64", [2**63 - 1]),
    ("INT32", [7], "float32", [7.0]),
    ("INT64", [1_000_000], "timestamp", [datetime.datetime(1970, 1, 1, 0, 0, 1, tzinfo=datetime.UTC)]),
    ("UINT64", [1_000_000], "timestamp", [datetime.datetime(1970, 1, 1, 0, 0, 1, tzinfo=datetime.UTC)]),
    ("INT64", [1], "date", [datetime.date(1970, 1, 2)]),
    ("UINT16", [2], "date", [datetime.date(1970, 1, 3)]),
]  # fmt: skip


@pytest.mark.parametrize(("datatype", "values", "kind", "wanted"), CASES, ids=lambda each: str(each)[:24])
def test_datatype_goes_into_the_columns_that_take_it(
    datatype: str, values: list[Any], kind: str, wanted: list[Any]
) -> None:
    for given in (
        [tensor(datatype, values)],
        [Tensor(DATATYPES[datatype], tensor(datatype, values).array.reshape(-1, 1))],
    ):
        rows = left([*given, None], {"x": 0})
        assert rows is not None
        assert [each["x"] for each in made(rows, arrow_schema({"x": kind}))] == wanted


@pytest.mark.parametrize(
    ("datatype", "value", "kind"),
    [
        ("INT64", 128, "int8"), ("INT8", -1, "uint64"), ("UINT64", 2**63, "int64"), ("INT64", 2**24 + 1, "float32"),
        ("INT64", 2**53 + 1, "float64"), ("FP64", 1e300, "float32"), ("INT64", 2**40, "date"), ("UINT64", 2**63, "timestamp"),
        ("BYTES", b"\xff", "string"), ("BYTES", b"a", "int64"),
    ],
)  # fmt: skip
def test_value_that_does_not_fit_is_refused_with_its_column(datatype: str, value: object, kind: str) -> None:
    rows = left([tensor(datatype, [value])], {"x": 0})
    assert rows is not None
    with pytest.raises(InvalidArgument, match=r"^column 'x': a value of "):
        made(rows, arrow_schema({"x": kind}))


def test_nan_stays_nan_and_is_not_null() -> None:
    rows = left([tensor("FP64", [float("nan"), 1.0])], {"x": 0})
    assert rows is not None
    batch = rows.maker.batch([rows], arrow_schema({"x": "float32"}))
    assert batch.column(0).null_count == 0
    assert np.isnan(batch.column(0)[0].as_py())


def test_rows_keep_nothing_alive_but_their_own_values() -> None:
    large = np.arange(1_000_000, dtype=np.float64)
    held = weakref.ref(large)
    amounts = Tensor(DATATYPES["FP64"], large[:3])
    rows = left([amounts, Tensor(DATATYPES["FP64"], large)], {"amount": 0})
    assert rows is not None
    del amounts, large
    assert held() is None
    assert [each["amount"] for each in made(rows)] == [0.0, 1.0, 2.0]


def test_rows_of_a_request_among_others_are_its_own() -> None:
    values: Values = [tensor("FP64", [0.0, 1.0, 2.0, 3.0]), tensor("BOOL", [True, False, True, True])]
    made_by = maker({"amount": 0, "request": "$id"}, Condition((1,), "", 0.0))
    for part, wanted in ((slice(0, 2), [0.0]), (slice(1, 2), []), (slice(1, 4), [2.0, 3.0])):
        rows = made_by.of(values, response(), 5, part)
        assert ([] if rows is None else [each["amount"] for each in made(rows)]) == wanted


def test_every_numeric_datatype_survives_in_every_column_it_fits() -> None:
    rng = random.Random(10)
    numbers = [name for name in DATATYPES if name.startswith(("INT", "UINT"))]
    for _ in range(300):
        datatype, kind = rng.choice(numbers), rng.choice([name for name in TYPES if name.startswith(("int", "uint"))])
        value = rng.choice([0, 1, int(np.iinfo(datatype.lower()).max), int(np.iinfo(datatype.lower()).min)])
        rows = left([tensor(datatype, [value])], {"x": 0})
        assert rows is not None
        bounds = np.iinfo(kind)
        if bounds.min <= value <= bounds.max:
            assert made(rows, arrow_schema({"x": kind})) == [{"x": value}]
        else:
            with pytest.raises(InvalidArgument):
                made(rows, arrow_schema({"x": kind}))


def test_words_tell_of_the_request() -> None:
    columns: dict[str, int | str] = {
        "id": "$id", "at": "$time", "graph": "$graph", "versions": "$versions", "ledger": "$ledger", "marks": "$marks",
    }  # fmt: skip
    found = maker(columns).of(
        [], response("r-\udcff", (stage("score"),), ("score: late: light", "b: skipped")), 1_500_000
    )
    assert found is not None
    schema = arrow_schema({name: "timestamp" if name == "at" else "string" for name in columns})
    (row,) = made(found, schema)
    assert row["id"] == "r-\\udcff"
    assert row["at"].timestamp() == 1.5
    assert row["graph"] == "graph"
    assert row["marks"] == "score: late: light; b: skipped"
    assert orjson.loads(row["ledger"]) == {
        "total_us": 50.0,
        "stages": [
            {
                "name": "score",
                "wait_us": 10.0,
                "compute_us": 10.0,
                "rows": 4,
                "remaining_us": None,
                "critical": True,
                "mark": "",
            }
        ],
    }
    assert orjson.loads(row["versions"]) == {}
    whole = maker({"at": "$time"}).of([], response(), 1_500_000)
    assert whole is not None
    assert made(whole, arrow_schema({"at": "int64"})) == [{"at": 1_500_000}]


def node(name: str, target: Target, lighter: Target | None = None) -> Node:
    """A node that matters only by what it calls."""
    fallback = None if lighter is None else Fallback(target=lighter)
    return Node(0, name, target, (), (), (), (), (), on_late=fallback)


def test_versions_are_of_whoever_answered_inside_graphs_and_splits_too() -> None:
    with running({"champion": Plus(1.0), "challenger": Plus(2.0)}, {"champion": 1, "challenger": 1}) as split:
        plan = _plan(split)
        stages = [
            stage("skipped", "skipped"), stage("plain"), stage("late", "late: light"), stage("gone", "failed: default"),
            stage("score"), stage("score/s/challenger"), stage("score/s/champion"), stage("score/unknown"),
        ]  # fmt: skip
        assert versions_of(plan, stages) == {
            "plain": 3, "late": 7, "score": 1, "score/s/challenger": 1, "score/s/champion": 1,
        }  # fmt: skip
        record = maker({"versions": "$versions"}, plan=plan)
        for _ in range(2):
            rows = record.of([], response(stages=tuple(stages)), 1)
            assert rows is not None
            assert orjson.loads(made(rows, arrow_schema({"versions": "string"}))[0]["versions"])["late"] == 7


def _plan(split: Split) -> Plan:
    port = split.workers["champion"]
    empty = Signature((), ())
    plain, light = Target("model", 3, empty, False, port), Target("light", 7, empty, False, port)
    scoring = Target("s", 1, empty, False, split.runner)
    nodes = (
        node("skipped", plain), node("plain", plain), node("late", plain, light), node("gone", plain, light),
        node("score", scoring),
    )  # fmt: skip
    return Plan("graph", empty, (), 0, nodes, (), None)
