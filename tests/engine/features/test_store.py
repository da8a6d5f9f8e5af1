"""Logs and views while specs come and go: what is added, changed, taken away, refused; and what nobody declared."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine import (
    BYTES,
    Engine,
    InvalidArgument,
    NotFound,
    Request,
    Spec,
    SpecError,
    Tensor,
    Unavailable,
    VireoError,
    parse_spec,
)
from tests.engine.features.running import LOG, SPEC, VIEW, Running, row, running

OTHER = VIEW.replace("spending:", "visits:").replace("snapshots", "others").replace("dead.jsonl", "others.jsonl")


def _apply(engine: Running, folder: Path, spec: str) -> None:
    engine.engine.apply(parse_spec(spec, folder=folder))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path) as found:
        found.push(*(row(number, f"c{number % 2}") for number in range(10)))
        yield found


def test_nothing_of_arrow_is_loaded_for_a_spec_without_logs() -> None:
    code = (
        "import sys; from engine import Engine, Spec; e = Engine(Spec()); e.start(); assert not e.features.logs; e.close(); "
        "print([each for each in ('pyarrow', 'numba', 'confluent_kafka') if each in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_what_nobody_declared_is_not_found_with_what_is_near(engine: Running) -> None:
    features = engine.engine.features
    with pytest.raises(NotFound, match="no log 'ty'; nearest: 'tx'"):
        features.schema("ty")
    with pytest.raises(NotFound, match="nearest: 'tx'"):
        features.push("tX", pa.record_batch({"a": [1]}))
    with pytest.raises(NotFound, match="nearest: 'spending'"):
        features.view("spendin")
    with pytest.raises(InvalidArgument, match="nearest: 'card'"):
        features.push("tx", pa.record_batch({"cart": ["a"]}))
    assert (features.logs, features.views) == (("tx",), ("spending",))


def test_a_view_that_is_added_reads_the_log_from_its_start(engine: Running, tmp_path: Path) -> None:
    _apply(engine, tmp_path, SPEC + OTHER)
    assert engine.counts("c0", "c1", view="visits") == [5, 5]
    assert engine.engine.is_ready("visits", None)


def test_a_view_that_is_taken_away_is_closed_and_saved(engine: Running, tmp_path: Path) -> None:
    _apply(engine, tmp_path, LOG)
    assert list((tmp_path / "snapshots").glob("*.snapshot"))
    with pytest.raises(NotFound):
        engine.view()
    with pytest.raises(NotFound):
        engine.engine.infer(Request("spending", inputs={"card": Tensor(BYTES, np.array([b"c0"], object))}))
    assert engine.engine.features.logs == ("tx",)


def test_a_log_that_is_taken_away_can_be_opened_by_another(engine: Running, tmp_path: Path) -> None:
    _apply(engine, tmp_path, "{}")
    assert engine.engine.features.logs == ()
    with running(tmp_path) as other:
        assert other.counts("c0") == [5]


def test_a_changed_view_replaces_the_old_one_without_a_failed_read(engine: Running, tmp_path: Path) -> None:
    failed: list[Exception] = []
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            try:
                assert engine.counts("c0") == [5]
                engine.engine.infer(Request("spending", inputs={"card": Tensor(BYTES, np.array([b"c0"], object))}))
            except Exception as error:
                failed.append(error)
                return

    thread = threading.Thread(target=read)
    thread.start()
    for window in ("2h", "3h", "1h"):
        changed = SPEC.replace("n: {aggregation: count, window: 1h}", f"n: {{aggregation: count, window: {window}}}")
        _apply(engine, tmp_path, changed.replace("share:", f"share_{window}:"))
        assert engine.view().features[-1] == f"share_{window}"
    ended.set()
    thread.join()
    assert not failed


def test_a_column_added_to_a_log_is_there_at_once_and_views_go_on(engine: Running, tmp_path: Path) -> None:
    wider = SPEC.replace("shop: string}", "shop: string, country: string}")
    _apply(engine, tmp_path, wider)
    assert "country" in engine.engine.features.schema("tx").names
    engine.push(row(20, "c0", country="ch"))
    assert engine.counts("c0") == [6]


def test_a_log_that_cannot_be_changed_so_stays_as_it_was_and_is_read_on(engine: Running, tmp_path: Path) -> None:
    with pytest.raises(VireoError, match="amount"):
        _apply(
            engine,
            tmp_path,
            SPEC.replace("amount: float64", "amount: string").replace("aggregation: sum", "aggregation: last"),
        )
    assert engine.engine.features.schema("tx").field("amount").type == pa.float64()
    engine.push(row(21, "c0"))
    assert engine.counts("c0") == [6]


def test_a_second_log_that_cannot_be_opened_leaves_everything_as_it_was(engine: Running, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    second = SPEC.replace("logs:", "logs:\n  other: {schema: {a: int64}, local: {path: file/below}}")
    with pytest.raises(VireoError):
        _apply(engine, tmp_path, second)
    assert engine.engine.features.logs == ("tx",)
    engine.push(row(21, "c0"))
    assert engine.counts("c0") == [6]


def test_a_log_of_another_place_is_another_log(engine: Running, tmp_path: Path) -> None:
    _apply(engine, tmp_path, SPEC.replace("path: log,", "path: elsewhere,").replace("snapshots", "new"))
    assert engine.counts("c0") == [None]
    engine.push(row(1, "c0"))
    assert engine.counts("c0") == [1]


def test_events_can_be_pushed_before_any_view_is_ready(tmp_path: Path) -> None:
    engine = Engine(parse_spec(SPEC, folder=tmp_path))
    with pytest.raises(NotFound):
        engine.features.push("tx", pa.record_batch({"a": [1]}))
    engine.features.apply(parse_spec(SPEC, folder=tmp_path))
    schema = engine.features.schema("tx")
    engine.features.push("tx", pa.RecordBatch.from_pylist([row(1)], schema))
    with pytest.raises(Unavailable, match="not there yet"):
        engine.features.view("spending")
    engine.features.close()
    with running(tmp_path) as later:
        assert later.counts("a") == [1]


def test_after_the_end_nothing_is_taken(tmp_path: Path) -> None:
    with running(tmp_path) as engine:
        view, features = engine.view(), engine.engine.features
        schema = features.schema("tx")
    with pytest.raises(Unavailable, match="shutting down"):
        features.push("tx", pa.RecordBatch.from_pylist([row(1)], schema))
    assert view.lookup(pa.array(["a"])).status.tolist() == [1]


def test_an_engine_that_ends_while_a_view_restores_does_not_wait_for_it(tmp_path: Path) -> None:
    with running(tmp_path, LOG) as engine:
        schema = engine.engine.features.schema("tx")
        rows = pa.RecordBatch.from_pylist([row(number, f"c{number}") for number in range(20_000)], schema)
        for _ in range(20):
            engine.engine.features.push("tx", rows)
    spec = parse_spec(SPEC, folder=tmp_path)
    again = Engine(spec)
    starting = threading.Thread(target=lambda: _started(again))
    starting.start()
    again.close(drain_s=0)
    starting.join(20)
    assert not starting.is_alive()


def _started(engine: Engine) -> None:
    with suppress(VireoError):
        engine.start()


@pytest.mark.parametrize(
    ("wrong", "right", "told"),
    [
        ("source: tx", "source: ty", "feature_views.spending.source: no log 'ty'; nearest: 'tx'"),
        ("local: {path: log, durability: os}", "local: null", "logs.tx: give either 'local' or 'kafka'"),
        ("amount: float64", "amount: float46", "unknown type 'float46'; nearest: 'float64'"),
        ("every: 1h", "every: soon", "feature_views.spending.snapshot.every: expected a duration"),
        ("every: 1h", "every: 10ms", "snapshot.every: must be from 1"),
        ("every: 1h}", "every: 1h, keep: 0}", "snapshot.keep: must be from 1"),
        ("now_amount: number", "card: text", "feature_views.spending.request.card: a lookup has an input of that name"),
        ("event_time: at", "event_time: amount", "feature_views.spending.event_time"),
        ("n: {aggregation: count", "valid: {aggregation: last, column: shop", "text feature is an output"),
        (
            "lateness: 60s",
            "lateness: 60s\n    bootstrap: {table: t, until: never}",
            "bootstrap.until: expected an instant",
        ),
    ],
)
def test_a_spec_that_cannot_be_is_refused_with_its_place(tmp_path: Path, wrong: str, right: str, told: str) -> None:
    assert wrong in SPEC
    with pytest.raises(SpecError) as refused:
        parse_spec(SPEC.replace(wrong, right, 1), folder=tmp_path)
    assert told in refused.value.message
    assert refused.value.message.startswith("spec:")


@pytest.mark.parametrize(("shared", "told"), [("snapshots", "snapshot.path"), ("dead.jsonl", "dead_letters")])
def test_two_views_cannot_write_to_one_place(tmp_path: Path, shared: str, told: str) -> None:
    other = OTHER.replace(
        "others.jsonl" if shared == "dead.jsonl" else "others,", shared + ("," if shared == "snapshots" else "")
    )
    with pytest.raises(SpecError, match=told):
        parse_spec(SPEC + other, folder=tmp_path)


def test_a_view_and_a_function_cannot_have_one_name(tmp_path: Path) -> None:
    function = "functions: {spending: {call: 'a:b', inputs: {}, outputs: {}}}\n"
    with pytest.raises(SpecError, match="a function has that name"):
        parse_spec(function + SPEC, folder=tmp_path)


def test_an_empty_spec_has_no_logs() -> None:
    assert (Spec().logs, Spec().feature_views) == ({}, {})
