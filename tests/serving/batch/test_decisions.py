"""Pace, progress, columns and identity of a batch run: decisions, without files or models."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from engine import BYTES, DATATYPES, DataLoss, FailedPrecondition, InvalidArgument, Signature, TensorSpec
from serving.batch.columns import Columns, Wanted, output_schema, resolve_columns
from serving.batch.manifest import Manifest, Part, check_same, decoded
from serving.batch.pacing import Pace, paced_rows
from serving.batch.progress import Progress, clock_text

FP32, INT64 = DATATYPES["FP32"], DATATYPES["INT64"]


def test_requests_are_spread_evenly() -> None:
    pace, now_s, begun = Pace(100.0), 5.0, []
    for _ in range(20):
        now_s += pace.wait_s(10, now_s)
        begun.append(now_s)
    assert begun == pytest.approx([5.0 + 0.1 * each for each in range(20)])


def test_time_that_was_not_used_is_not_saved_up_for_a_burst() -> None:
    pace = Pace(100.0)
    assert pace.wait_s(10, 0.0) == 0.0
    waits = [pace.wait_s(10, 60.0) for _ in range(4)]
    assert waits == pytest.approx([0.0, 0.0, 0.1, 0.2])


def test_waking_up_late_is_made_good() -> None:
    pace, now_s = Pace(100.0), 0.0
    for _ in range(1000):
        now_s += pace.wait_s(10, now_s) + 0.03
    assert now_s == pytest.approx(100.0, rel=0.01)


def test_without_a_rate_nothing_waits() -> None:
    pace = Pace(None)
    assert [pace.wait_s(1000, 0.0) for _ in range(3)] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(("rate", "rows"), [(None, 1024), (1.0, 1), (1000.0, 50), (1e9, 1024)])
def test_a_rate_makes_requests_small(rate: float | None, rows: int) -> None:
    assert paced_rows(1024, rate) == rows


def test_progress_tells_rows_speed_and_what_is_left() -> None:
    progress = Progress(done=3000, total=5000, earlier=1000, rejected=2, elapsed_s=10.0)
    assert progress.line() == "3,000 of 5,000 rows (60%), 200 rows/s, 0:10 left, 2 rejected"
    assert progress.bar().startswith("[##############..........] 3,000")
    assert Progress(7, None, 0, 0, 0.0).bar() == "7 rows, 0 rows/s"
    assert Progress(0, 0, 0, 0, 1.0).bar() == "0 of 0 rows, 0 rows/s"


def test_times_are_written_as_clocks_do() -> None:
    assert [clock_text(each) for each in (0, 59.6, 3599, 3600 + 62)] == ["0:00", "1:00", "59:59", "1:01:02"]


def test_a_manifest_is_what_was_stored() -> None:
    manifest = Manifest({"model": {"a 1": "x"}}, (Part(3, 1), Part(0, 2)))
    again = decoded(manifest.encoded(), "m")
    assert again == manifest
    assert (again.rows, again.rejected, again.rows_read) == (3, 3, 6)


def test_a_damaged_or_later_manifest_is_refused() -> None:
    with pytest.raises(DataLoss, match=r"m: not a batch run's progress.*--restart"):
        decoded(b"{", "m")
    with pytest.raises(FailedPrecondition, match="format 2, expected 1"):
        decoded(b'{"identity":{},"format":2}', "m")


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ({"model": {"a 2": "x"}}, "model: a 1 is no more; model: a 2 is new"),
        ({"model": {"a 1": "y"}}, "model: a 1 was 'x', is 'y'"),
    ],
)
def test_what_differs_is_named(now: dict[str, Any], told: str) -> None:
    before = {"model": {"a 1": "x"}}
    check_same(before, {"model": {"a 1": "x"}}, "out")
    with pytest.raises(FailedPrecondition, match="out was begun with another") as raised:
        check_same(before, now, "out")
    assert told in raised.value.message
    assert "--restart begins anew" in raised.value.message


SIGNATURE = Signature(
    (
        TensorSpec("v", FP32, (-1, 3)),
        TensorSpec("n", INT64, (-1, 1)),
        TensorSpec("text", BYTES, (-1, 1)),
        TensorSpec("extra", FP32, (-1,), optional=True),
    ),
    (TensorSpec("score", FP32, (-1, 1)), TensorSpec("top", INT64, (-1, 5)), TensorSpec("any", BYTES, (-1, -1))),
    batchable=True,
)
SCHEMA = pa.schema(
    [
        ("v", pa.list_(pa.float64())),
        ("n", pa.int8()),
        ("text", pa.dictionary(pa.int32(), pa.string())),
        ("id", pa.string()),
    ]
)


def test_columns_are_found_by_name_and_outputs_typed() -> None:
    found = resolve_columns("m", SIGNATURE, SCHEMA, Wanted({}, (("id", "id"), ("key", "n"))))
    assert found.inputs == (("v", "v"), ("n", "n"), ("text", "text"))
    assert found.read == ["v", "n", "text", "id"]
    schema = output_schema(SIGNATURE, SCHEMA, found)
    assert schema == pa.schema(
        [
            ("id", pa.string()), ("key", pa.int8()), ("score", pa.float32()), ("top", pa.list_(pa.int64(), 5)),
            ("any", pa.list_(pa.binary())), ("model_version", pa.int64()),
        ]
    )  # fmt: skip


def test_everything_may_be_kept_and_outputs_chosen() -> None:
    found = resolve_columns("m", SIGNATURE, SCHEMA, Wanted({}, (("*", "*"),), ("top",)))
    assert found == Columns(
        (("v", "v"), ("n", "n"), ("text", "text")), tuple((each, each) for each in SCHEMA.names), ("top",)
    )


@pytest.mark.parametrize(
    ("change", "wanted", "told"),
    [
        ({"v": pa.list_(pa.float32(), 4)}, Wanted({}), r"column 'v': model 'm', input 'v': expected FP32 of shape \[3\]"),
        ({"v": pa.float32()}, Wanted({}), r"expected FP32 of shape \[3\] a row, got float"),
        ({"n": pa.string()}, Wanted({}), r"column 'n'.*expected INT64 of shape \[1\] a row, got string"),
        ({"n": pa.bool_()}, Wanted({}), "got bool"),
        ({"text": pa.int32()}, Wanted({}), "expected BYTES"),
        ({}, Wanted({"w": "v"}), "--columns: model 'm' has no input 'w'"),
        ({}, Wanted({"v": "vv"}), "input 'v': the input has no column 'vv'; nearest: 'v'"),
        ({}, Wanted({}, (("id", "ids"),)), "--keep: the input has no column 'ids'; nearest: 'id'"),
        ({}, Wanted({}, (), ("tops",)), "--outputs: model 'm' has no output 'tops'; nearest: 'top'"),
        ({}, Wanted({}, (("score", "id"),)), "two columns 'score'.*--keep NEW=score"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_before_a_row_is_read(
    change: dict[str, pa.DataType], wanted: Wanted, told: str
) -> None:
    schema = pa.schema([(each.name, change.get(each.name, each.type)) for each in SCHEMA])
    with pytest.raises(InvalidArgument, match=told):
        resolve_columns("m", SIGNATURE, schema, wanted)
