"""What a running view served is sampled into a file, and the file against the log, or a table, tells right from wrong."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine import FailedPrecondition, InvalidArgument, NotFound, Probe, parse_spec, probe_skew
from engine.errors import DataLoss, SpecError
from engine.features.sample_file import SampleFile
from engine.features.skew import ServedRow
from engine.log.past import ARRIVAL, read_log
from tests.engine.features import sample_child
from tests.engine.features.running import SPEC, START_US, Running, row, running
from tests.engine.features.streams import whole_view

ROOT = Path(__file__).resolve().parents[3]
S = 1_000_000
IDLE = "      idle: {aggregation: time_since_last}\n"
SAMPLED = f"{SPEC.rstrip()}\n{IDLE}    sample: {{path: samples/spending.parquet, rows: 300}}\n"
SAMPLE = "samples/spending.parquet"


def _probe(folder: Path, **how: object) -> Probe:
    spec = parse_spec(SAMPLED, folder=folder)
    return probe_skew(spec, "spending", **{"settle_us": 0, **how})  # type: ignore[arg-type]


def _mismatched(probe: Probe) -> dict[str, int]:
    return {name: skew.mismatched for name, skew in probe.report.features.items() if skew.mismatched}


def _serve(engine: Running, cards: str, seed: int, rows: int = 120, first: int = 0) -> None:
    """Pushes events of `cards`, some late, and reads them at past, present and coming instants whenever they are visible."""
    rng, view = random.Random(seed), engine.view()
    for number in range(first, first + rows, 3):
        chosen = [rng.choice(cards) for _ in range(3)]
        events = enumerate(chosen, number)
        engine.push(*(row(n, card, at_s=n - first - rng.randrange(90)) for n, card in events))
        as_of = START_US + np.array([rng.randrange(-60, 4000) * S for _ in range(3)])
        keys = pa.array([*cards[:2], "stranger"])
        only = rng.choice([None, None, ["n", "share"]])
        view.lookup(keys, as_of_us=as_of, request={"now_amount": pa.array([1.0, None, number])}, features=only)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which three threads have pushed and read, each its own cards."""
    folder = tmp_path_factory.mktemp("served")
    with running(folder, SAMPLED) as engine:
        engine.push(row(6000, "rare", at_s=0))
        threads = [
            threading.Thread(target=_serve, args=(engine, cards, seed, 120, 1000 * seed))
            for seed, cards in enumerate(("ab", "cd", "ef"))
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        engine.push(row(5000, "a", at_s=130))
        for second in range(131, 151):
            engine.view().lookup(pa.array(["a"]), as_of_us=START_US + second * S)
        held = engine.view().lookup(pa.array(["rare"] * 20), as_of_us=START_US + 5 * S, features=["idle"])
        assert held.values.tolist() == [[70.0]] * 20, "as of the watermark less lateness"
    return folder


def _table(folder: Path) -> pa.Table:
    with running(folder) as engine:
        return read_log(engine.engine.features._logs["tx"].current())


def test_what_threads_were_served_while_events_came_has_no_skew(served: Path) -> None:
    probe = _probe(served)
    assert (probe.sampled, probe.report.rows, probe.report.unsettled) == (300, 300, 0)
    assert 370 <= probe.offered <= 430, "of 400; threads that meet may count a few wrong"
    assert {name: skew.examples for name, skew in probe.report.features.items() if skew.mismatched} == {}
    compared = {name: skew.compared for name, skew in probe.report.features.items()}
    assert compared["status"] == 300
    assert 100 < compared["total"] < compared["n"] < 300, "not all were asked for each time"


def test_an_amount_that_was_tampered_with_is_found_and_named(served: Path, tmp_path: Path) -> None:
    table = _table(served)
    pq.write_table(table, tmp_path / "whole.parquet")
    assert _mismatched(_probe(served, table=tmp_path / "whole.parquet", arrival=ARRIVAL)) == {}
    amounts = table.column("amount").to_pylist()
    place = table.column("id").to_pylist().index("e5000")
    amounts[place] += 1000.0
    tampered = table.set_column(table.column_names.index("amount"), "amount", pa.array(amounts))
    pq.write_table(tampered, tmp_path / "tampered.parquet")
    probe = _probe(served, table=tmp_path / "tampered.parquet", arrival=ARRIVAL)
    found = _mismatched(probe)
    assert "total" in found
    assert found.keys() <= {"total", "share"}, found
    total = probe.report.features["total"]
    assert total.worst == pytest.approx(1000.0)
    assert {each.entity for each in total.examples} == {"a"}


def test_a_log_in_use_is_read_beside_who_writes_it(served: Path) -> None:
    with running(served) as engine:
        engine.push(*(row(n, "z", at_s=n) for n in range(9000, 9010)))
        probe = _probe(served)
    assert (probe.report.rows, _mismatched(probe)) == (300, {})


def test_what_is_not_there_is_told(served: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"'spendign'.*'spending'"):
        probe_skew(parse_spec(SAMPLED, folder=served), "spendign")
    with pytest.raises(FailedPrecondition, match="keeps no sample"):
        probe_skew(parse_spec(SPEC, folder=served), "spending")
    with pytest.raises(NotFound, match="no sample at"):
        _probe(tmp_path)
    with pytest.raises(InvalidArgument, match="column of arrivals"):
        _probe(served, arrival="at")
    with pytest.raises(NotFound, match="no table"):
        _probe(served, table=tmp_path / "none")


def test_a_sample_of_another_declaration_is_refused(served: Path) -> None:
    other = SAMPLED.replace("now_amount / total", "total / now_amount")
    with pytest.raises(FailedPrecondition, match="declared otherwise"):
        probe_skew(parse_spec(other, folder=served), "spending")
    moved = parse_spec(SAMPLED.replace("rows: 300", "rows: 7").replace("every: 1h", "every: 2h"), folder=served)
    assert probe_skew(moved, "spending").sampled == 300


def test_a_log_that_is_gone_is_not_made_anew(served: Path, tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    (tmp_path / SAMPLE).write_bytes((served / SAMPLE).read_bytes())
    with pytest.raises(NotFound, match="is not there"):
        _probe(tmp_path)
    assert not (tmp_path / "log").exists()


def test_a_view_that_began_with_a_table_is_compared_with_both(tmp_path: Path) -> None:
    until = "2023-11-14T22:14:20Z"  # 60 s after the first event
    rows = [row(n, "ab"[n % 2]) for n in range(90)]
    spec = SAMPLED + f'    bootstrap: {{table: past.parquet, until: "{until}"}}\n'
    with running(tmp_path / "schema") as engine:
        schema = engine.engine.features.schema("tx")
    pq.write_table(pa.Table.from_pylist(rows[:60], schema=schema), tmp_path / "past.parquet")
    with running(tmp_path, spec) as engine:
        engine.push(*rows[50:])
        engine.view().lookup(pa.array(["a", "b", "c"]), as_of_us=START_US + 100 * S)
        assert engine.counts("a", as_of_us=START_US + 100 * S) == [45.0]
    probe = probe_skew(parse_spec(spec, folder=tmp_path), "spending", settle_us=0)
    assert (probe.report.rows, _mismatched(probe)) == (4, {})


def test_request_inputs_are_kept_as_the_answer_took_them(tmp_path: Path) -> None:
    given = SAMPLED.replace("number}", "number, place: text}").replace(
        "{expression: now_amount / total}", "{expression: \"coalesce(now_amount, 7) / total\"}\n"
        "      where: {expression: \"coalesce(place, last_shop)\"}",
    )  # fmt: skip
    with running(tmp_path, given) as engine:
        engine.push(row(1), row(2))
        keys, as_of = pa.array(["a", "a"]), START_US + 9 * S
        for request in (
            {"now_amount": np.array([np.nan, 5.0]), "place": np.array(["here", None], object)},
            {"now_amount": pa.array([None, 5]), "place": pa.array([None, "there"])},
            {"now_amount": pa.array([float("nan"), 1.5])},
            {},
        ):
            rows = engine.view().lookup(keys, as_of_us=as_of, request=request)
            assert rows.values[0][rows.names.index("share")] == pytest.approx(7 / 3)
        engine.view().lookup(keys, request={"now_amount": pa.array(["no", "number"])}, features=["n"])
    probe = probe_skew(parse_spec(given, folder=tmp_path), "spending", settle_us=0)
    assert {name: skew.examples for name, skew in probe.report.features.items() if skew.mismatched} == {}
    assert probe.report.features["where"].compared == 8
    assert probe.report.rows == 10


def test_bounds_are_kept_and_the_sample_starts_anew_with_each_file(tmp_path: Path) -> None:
    spec = SAMPLED.replace("rows: 300", "rows: 5").replace("every: 1h", "every: 1s")
    with running(tmp_path, spec) as engine:
        keys = pa.array([f"k{n}" for n in range(1000)])
        engine.view().lookup(keys, as_of_us=START_US)
        rows, offered = _await_sample(tmp_path, spec)
        assert (len(rows), offered) == (5, 1000)
        assert len({each.entity for each in rows}) == 5
        engine.view().lookup(keys[:2], as_of_us=START_US)
    rows, offered = _await_sample(tmp_path, spec)
    assert ([each.entity for each in rows], offered) == (["k0", "k1"], 2)
    with running(tmp_path, spec):
        pass
    assert _await_sample(tmp_path, spec)[1] == 2, "nothing was served, so the last one stays"
    assert [each.name for each in (tmp_path / "samples").iterdir()] == ["spending.parquet"]


def _await_sample(folder: Path, spec: str) -> tuple[list[ServedRow], int]:
    until = threading.Event()
    for _ in range(1200):
        if (folder / SAMPLE).exists():
            break
        until.wait(0.05)
    table = pq.read_table(folder / SAMPLE)
    probe = probe_skew(parse_spec(spec, folder=folder), "spending", table=_past(folder))
    rows = [ServedRow("spending", each, 0, 0, 1, 0, {}) for each in table.column("served.entity").to_pylist()]
    return rows, probe.offered


def _past(folder: Path) -> Path:
    path = folder / "past.parquet"
    schema = pa.schema(
        {"card": pa.string(), "at": pa.timestamp("us", "UTC"), "id": pa.string(), "amount": pa.float64()}
    )
    pq.write_table(schema.append(pa.field("shop", pa.string())).empty_table(), path)
    return path


def test_a_file_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "samples").write_text("a file where a folder should be")
    with running(tmp_path, SAMPLED) as engine:
        assert engine.counts("a") == [None]
    assert "its sample is not written" in caplog.text


def test_every_kind_of_row_comes_back_from_the_file(tmp_path: Path) -> None:
    view = whole_view()
    names = [each.name for each in view.features]
    texts = {each.name for each in view.features if each.text}
    whole = {name: "x" if name in texts else 1.5 for name in names}
    rows = [
        ServedRow(view.name, "a", 1 << 62, -5, 0, 7, whole, {"limit": 0.5, "place": "home"}),
        ServedRow(view.name, "b", -(1 << 62), 5, 1, 0, dict.fromkeys(names), {"limit": None, "place": None}),
        ServedRow(view.name, "c", 0, 0, 2, 9, {names[1]: 2.0}, {"limit": 1.0, "place": None}),
    ]
    file = SampleFile(tmp_path / "s.parquet", view, "digest")
    file.write(rows, 12)
    assert file.read() == (rows, 12)
    for value in ("status", "event_time"):
        assert f"served.{value}" in pq.read_schema(tmp_path / "s.parquet").names
    with pytest.raises(FailedPrecondition):
        SampleFile(tmp_path / "s.parquet", replace(view, name="other"), "digest").read()


def test_kill_9_leaves_the_old_sample_or_the_new(tmp_path: Path) -> None:
    path, rng, drafts = tmp_path / "s.parquet", random.Random(3), 0
    for _ in range(5):
        command = [sys.executable, "-m", "tests.engine.features.sample_child", str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as child:
            assert child.stdout is not None
            for _ in range(rng.randrange(1, 6)):
                child.stdout.readline()
            time.sleep(rng.random() * 0.02)
            child.kill()
        drafts = max(drafts, len(list(tmp_path.iterdir())) - 1)
        rows, offered = sample_child.sample(path).read()
        assert offered in sample_child.SIZES
        assert [(each.entity, each.as_of_us) for each in rows] == [(f"c{offered}", at) for at in range(offered)]
    assert drafts <= 1, "what is left of one that was killed is deleted by the next"


@pytest.mark.parametrize("content", [b"", b"PAR1", b"nonsense" * 100])
def test_what_is_no_sample_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.parquet").write_bytes(content)
    with pytest.raises(DataLoss, match="as a sample"):
        SampleFile(tmp_path / "s.parquet", whole_view(), "digest").read()
    pq.write_table(pa.table({"a": [1]}), tmp_path / "s.parquet")
    with pytest.raises(DataLoss, match="no sample of served rows"):
        SampleFile(tmp_path / "s.parquet", whole_view(), "digest").read()


@pytest.mark.parametrize(
    ("sample", "words"),
    [("rows: 0, path: s", "from 1 to 100000"), ("rows: 5", "path"), ("paths: s", "nearest: 'path'")],
)
def test_a_sample_that_makes_no_sense_is_refused(sample: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        parse_spec(f"{SPEC.rstrip()}\n    sample: {{{sample}}}\n", folder=Path())
