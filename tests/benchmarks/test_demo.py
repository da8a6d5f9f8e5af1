"""The demo from end to end on a small build of the fraud decision, and what it concludes."""

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import demo
from benchmarks.demo import (
    Agreement,
    agreement_line,
    agreement_of,
    answer_table,
    latency_table,
    ledger_table,
    next_steps,
    show_alerts,
)
from benchmarks.harness import Measured, measure
from benchmarks.load.order import LoadOrder
from benchmarks.load.verdict import Verdict
from benchmarks.servers import Server
from benchmarks.workloads.fraud.application import Application, Expected
from benchmarks.workloads.fraud.live import Alert, Answer
from tests.benchmarks.workloads.fraud.built import Decided

ALERT = Alert(0.93, '[["AMOUNT",2.5],["DEVICE",0.1]]', '{"gbdt":1}', 0.02)


def answer(number: int, probability: float, protocol: str = "gRPC", alert: Alert | None = None) -> Answer:
    decision = "approve" if alert is None else "decline"
    return Answer(number, protocol, probability, decision, (("AMOUNT", 2.5),) if alert else (), alert)


def expected_of(*probabilities: float) -> Expected:
    found = np.array(probabilities)
    return Expected(np.arange(len(found)), found > 0.5, found, found, found)


def measure_shortly(order: LoadOrder, server: Server, stream: Any) -> Measured:  # noqa: ANN401
    short = replace(order, duration_s=0.5, warmup_s=0.1, frames=str(stream.fresh(100)))
    return measure(short, server.process)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="server and load generator are pinned to a core each")
def test_demo_scores_over_both_protocols_and_shows_what_was_decided(
    decided: Decided, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    latency = demo.measure_latency
    monkeypatch.setattr(demo, "RATES_PER_S", (20.0,))
    monkeypatch.setattr(demo, "LIVE", 80)
    monkeypatch.setattr(demo, "ALERT_S_MAX", 1e3)  # how busy this machine is says nothing of the demo
    monkeypatch.setattr(demo, "measure_validly", measure_shortly)
    monkeypatch.setattr(demo, "measure_latency", lambda *given: latency(*given)[:0])
    code = demo.run(decided.application, tmp_path / "demo")
    printed = capsys.readouterr().out
    assert "80 transactions agree with LightGBM and scikit-learn" in printed
    assert code == 0, printed
    for said in ("grpc 20/s", "http 20/s", "ended with exit code 0", "gbdt", "encode", "alerts in the alert log"):
        assert said in printed, said
    request = json.loads((tmp_path / "demo" / "transaction.json").read_bytes())
    assert {each["name"] for each in request["inputs"]} >= {"customer", "terminal", "device", "amount", "at"}


@pytest.mark.parametrize(
    ("served", "holds"), [([0.1, 0.9], True), ([0.1, 0.90001], True), ([0.1, 0.91], False), ([0.1, np.nan], False)]
)
def test_probabilities_agree_when_every_one_is_within_the_bound(served: list[float], holds: bool) -> None:
    answers = [answer(0, served[0]), answer(1, served[1], "HTTP"), answer(2, 0.5, "HTTP")]
    agreement = agreement_of(answers, expected_of(0.1, 0.9, 0.5))
    assert agreement.differences["gRPC"] == 0
    assert agreement.holds is holds
    assert ("DISAGREE" in agreement_line(agreement, 3)) is not holds


def test_agreement_says_how_far_each_protocol_is() -> None:
    said = agreement_line(Agreement({"gRPC": 2.3e-7, "HTTP": 3e-8}, 1e-4), 200)
    assert said.startswith("200 transactions agree with LightGBM and scikit-learn over features by history")
    assert said.endswith("largest difference 2.3e-07 over gRPC, 3.0e-08 over HTTP, allowed 1e-04")


def test_answer_table_shows_the_most_probable_frauds_with_reasons_and_others() -> None:
    probabilities = np.linspace(0, 1, 40)
    answers = [answer(number, each, alert=ALERT if each > 0.9 else None) for number, each in enumerate(probabilities)]
    table = answer_table(answers, expected_of(*probabilities), np.full(40, 12.5))
    assert len(table.rows) == demo.ROWS_SHOWN
    assert [row[0] for row in table.rows[:4]] == [39, 38, 37, 36]
    assert table.rows[0][1:] == ["12.50", "fraud", "1.00000", "1.00000", "gRPC", "decline", "AMOUNT +2.5"]
    assert table.rows[-1][2] == "genuine"


def test_alert_that_is_late_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert not show_alerts([answer(0, 0.1)])
    assert not show_alerts([answer(0, 0.1), answer(1, 0.93, alert=ALERT)])
    assert "+2.50  the amount itself" in capsys.readouterr().out
    assert show_alerts([answer(1, 0.93, alert=replace(ALERT, after_s=1.5)), answer(2, 0.93, alert=ALERT)])


def test_ledger_table_has_a_line_for_each_stage() -> None:
    stage = {"name": "gbdt", "wait_us": 3.2, "compute_us": 41.0, "critical": True, "mark": ""}
    table = ledger_table({"total_us": 512.3, "stages": [stage, {**stage, "critical": False, "mark": "skipped"}]})
    assert table.rows == [["gbdt", "3", "41", "yes", ""], ["gbdt", "3", "41", "", "skipped"]]
    assert "512 µs" in table.about


def test_next_steps_name_what_the_demo_left(tmp_path: Path) -> None:
    said = next_steps(Application(tmp_path), tmp_path / "transaction.json")
    assert all(
        command in said for command in ("serve", "fraud.yaml", "curl", "explain", "make bench", "transaction.json")
    )
    assert latency_table([]).rows == []


@pytest.mark.parametrize(
    ("verdicts", "taken"),
    [([Verdict.MET], 1), ([Verdict.MISSED], 1), ([Verdict.LATE, Verdict.MET], 2), ([Verdict.LATE, Verdict.LATE], 2)],
)
def test_load_is_repeated_with_new_transactions_when_the_generator_was_late(
    verdicts: list[Verdict], taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    frames: list[str] = []

    def fake(order: LoadOrder, process: object) -> Any:  # noqa: ANN401
        seeds.append(order.seed)
        frames.append(order.frames)
        return SimpleNamespace(load=SimpleNamespace(verdict=verdicts[len(seeds) - 1]))

    monkeypatch.setattr(demo, "measure", fake)
    server: Any = SimpleNamespace(process=None)
    stream: Any = SimpleNamespace(fresh=lambda count: Path(f"{len(seeds)}.frames"))
    measured = demo.measure_validly(LoadOrder(port=1, frames="", rate_per_s=10.0), server, stream)
    assert measured.load.verdict == verdicts[-1]
    assert len(set(seeds)) == len(set(frames)) == taken
