"""The demo from end to end on a model made here, and what it concludes."""

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightgbm
import numpy as np
import pytest

from benchmarks import demo
from benchmarks.demo import Agreement, agreement_line, agreement_of, next_steps, score_table, write_request
from benchmarks.fraud_inputs import INPUT, FraudInputs
from benchmarks.harness import Measured, measure
from benchmarks.load.order import LoadOrder
from benchmarks.load.verdict import Verdict
from benchmarks.servers import Server
from benchmarks.workloads.fraud.export import PARITY_BOUND, to_onnx
from benchmarks.workloads.fraud.requests import request_frames
from benchmarks.workloads.fraud.sample import Sample, write_sample
from benchmarks.workloads.fraud.summary import Parity, Quality, Summary, VersionSummary, write_summary

ROWS, FEATURES = 64, 6
SUMMARY = Summary(
    seed=1,
    transactions=ROWS,
    frauds=ROWS // 2,
    features=[f"feature_{index}" for index in range(FEATURES)],
    requests=ROWS,
    sample_rows=ROWS,
    versions={
        "1": VersionSummary((0, 1), (2, 3), 10, 10, Quality(0.9, 0.8), {}, Parity(1e-7, PARITY_BOUND, 1e-3)),
    },
    shared_test_days=(2, 3),
    shared_quality={"1": Quality(0.9, 0.8)},
)


@pytest.fixture(scope="module")
def trained() -> tuple[lightgbm.Booster, Sample]:
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(2000, FEATURES)).astype(np.float32)
    labels = matrix.sum(axis=1) > 0
    parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1}
    booster = lightgbm.train(parameters, lightgbm.Dataset(matrix, labels.astype(int)), num_boost_round=10)
    rows = matrix[:ROWS]
    scores = booster.predict(rows)[:, None]
    return booster, Sample(rows, rng.uniform(1, 500, ROWS), labels[:ROWS], np.array([1]), scores)


def prepared(cache: Path, booster: lightgbm.Booster, sample: Sample) -> Path:
    """A cache with everything that the workload would have left."""
    inputs = FraudInputs(cache / "fraud" / "models", cache / "fraud" / "requests.frames")
    inputs.model_file(1).parent.mkdir(parents=True)
    inputs.model_file(1).write_bytes(to_onnx(booster).SerializeToString())
    inputs.frames.write_bytes(request_frames(sample.rows, np.arange(ROWS), count=ROWS, seed=1))
    write_sample(sample, cache / "fraud")
    write_summary(SUMMARY, cache / "fraud")
    return cache


def measure_shortly(order: LoadOrder, server: Server) -> Measured:
    return measure(replace(order, duration_s=0.3, warmup_s=0.1), server.process)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="server and load generator are pinned to a core each")
@pytest.mark.parametrize(("error", "code", "said"), [(0.0, 0, "64 transactions agree"), (1e-4, 1, "DISAGREE")])
def test_demo_scores_over_both_protocols_and_fails_when_they_disagree(
    error: float,
    code: int,
    said: str,
    trained: tuple[lightgbm.Booster, Sample],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(demo, "RATES_PER_S", (20.0,))
    monkeypatch.setattr(demo, "measure_validly", measure_shortly)
    booster, sample = trained
    cache = prepared(tmp_path, booster, replace(sample, scores=sample.scores + error))
    assert demo.main(["--cache", str(cache)]) == code
    printed = capsys.readouterr().out
    assert said in printed
    assert "grpc 20/s" in printed
    assert "http 20/s" in printed
    assert "ended with exit code 0" in printed


@pytest.mark.parametrize(
    ("served", "holds"), [([0.1, 0.9], True), ([0.1, 0.90001], True), ([0.1, 0.91], False), ([0.1, np.nan], False)]
)
def test_scores_agree_when_every_one_is_within_the_bound(served: list[float], holds: bool) -> None:
    own = np.array([0.1, 0.9])
    agreement = agreement_of(own, {"gRPC": own, "HTTP": np.array(served)}, 2e-5)
    assert agreement.differences["gRPC"] == 0
    assert agreement.holds is holds
    assert ("DISAGREE" in agreement_line(agreement, 2)) is not holds


def test_agreement_says_how_far_each_protocol_is() -> None:
    said = agreement_line(Agreement({"gRPC": 2.3e-7, "HTTP": 3e-8}, 1e-5), 200)
    assert said == "200 transactions agree: largest difference 2.3e-07 over gRPC, 3.0e-08 over HTTP, allowed 1e-05"


def test_score_table_shows_frauds_and_genuine_transactions(trained: tuple[lightgbm.Booster, Sample]) -> None:
    sample = trained[1]
    table = score_table(sample, sample.scores_of(1), {"gRPC": sample.scores_of(1)})
    assert table.columns == ["amount", "truth", "LightGBM", "over gRPC"]
    assert [row[1] for row in table.rows] == ["fraud"] * 4 + ["genuine"] * 4
    assert all(row[2] == row[3] for row in table.rows)


def test_next_steps_name_what_the_demo_left(trained: tuple[lightgbm.Booster, Sample], tmp_path: Path) -> None:
    request = tmp_path / "transaction.json"
    write_request(trained[1], request)
    (tensor,) = json.loads(request.read_bytes())["inputs"]
    assert (tensor["name"], tensor["shape"], tensor["datatype"]) == (INPUT, [1, FEATURES], "FP32")
    np.testing.assert_array_equal(np.array(tensor["data"], np.float32), trained[1].rows[0])
    said = next_steps(tmp_path / "models", request)
    assert all(command in said for command in ("serve", "curl", "explain", "make bench", "transaction.json"))


@pytest.mark.parametrize(
    ("verdicts", "taken"),
    [([Verdict.MET], 1), ([Verdict.MISSED], 1), ([Verdict.LATE, Verdict.MET], 2), ([Verdict.LATE, Verdict.LATE], 2)],
)
def test_load_is_repeated_when_the_generator_was_late(
    verdicts: list[Verdict], taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []

    def fake(order: LoadOrder, process: object) -> Any:  # noqa: ANN401
        seeds.append(order.seed)
        return SimpleNamespace(load=SimpleNamespace(verdict=verdicts[len(seeds) - 1]))

    monkeypatch.setattr(demo, "measure", fake)
    server: Any = SimpleNamespace(process=None)
    measured = demo.measure_validly(LoadOrder(port=1, frames="", rate_per_s=10.0), server)
    assert measured.load.verdict == verdicts[-1]
    assert len(set(seeds)) == taken
