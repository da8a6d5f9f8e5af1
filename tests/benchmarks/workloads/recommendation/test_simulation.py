"""The better ranker is found by the whole path: served through a split with sticky users, exposures logged and exported, clicks
drawn from true preferences, both read by `vireo experiment`. And two that are alike are not told apart."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from benchmarks.workloads.recommendation.simulation import SEED, SHOWN, USERS, population
from engine import Engine, Request, Tensor, datatype_named, load_spec
from serving.cli import main
from tests.serving.servers import eventually

INT64 = datatype_named("INT64", of="tests")
ROWS = 500

SPEC = """
functions:
  blurred:
    call: benchmarks.workloads.recommendation.simulation:blurred
    batchable: true
    inputs: &in {user: {datatype: INT64, shape: [-1]}}
    outputs: &out {items: {datatype: INT64, shape: [-1, SHOWN]}}
  sharp: {call: "benchmarks.workloads.recommendation.simulation:sharp", batchable: true, inputs: *in, outputs: *out}
logs:
  exposures:
    schema: {experiment: string, variant: string, key: string, request_id: string, time: timestamp}
    local: {path: exposures, durability: os}
traffic:
  better:
    key: user
    variants: {champion: {call: blurred, weight: 50}, challenger: {call: sharp, weight: 50}}
    exposures: exposures
  alike:
    key: user
    variants: {champion: {call: blurred, weight: 80}, challenger: {call: blurred, weight: 20}}
    exposures: exposures
"""


@dataclass(frozen=True)
class Served:
    """What is left of a day: a spec whose log has exposures, and files of clicks by split."""

    app: Path
    clicks: dict[str, Path]

    def report(self, capsys: pytest.CaptureFixture[str], source: Path, split: str, *asked: str) -> Any:  # noqa: ANN401
        """The report as JSON; the users fit the weights."""
        capsys.readouterr()
        code = main(
            ["experiment", str(source), "--outcomes", str(self.clicks[split]), "--experiment", split, "--json", *asked]
        )
        told = capsys.readouterr()
        assert (code, told.err) == (0, "")
        return json.loads(told.out)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """Every user asks once of each split, a quarter of them twice; each click is drawn when its item has been shown."""
    folder = tmp_path_factory.mktemp("served")
    app = folder / "app.yaml"
    app.write_text(SPEC.replace("SHOWN", str(SHOWN)))
    engine = Engine(load_spec(app))
    engine.start()
    random = np.random.default_rng(SEED)
    asking = np.concatenate([np.arange(USERS), np.arange(0, USERS, 4)])
    clicks = {}
    try:
        for split in ("better", "alike"):
            before_us, shown = time.time_ns() // 1000 - 1_000_000, []
            for users in np.split(asking, range(ROWS, len(asking), ROWS)):
                response = engine.infer(Request(split, {"user": Tensor(INT64, users)}))
                shown.append(response.outputs["items"].array)
            clicks[split] = folder / f"{split}.parquet"
            after = _clicked(asking, np.concatenate(shown), random, time.time_ns() // 1000)
            past = np.arange(USERS).repeat(4)  # of the week before, when everybody was shown the champion's
            before = _clicked(past, population().slates["blurred"][past], random, before_us)
            pq.write_table(pa.concat_tables([before, after]), clicks[split])
        eventually(lambda: sum(told.appended for _, told in engine.record_statistics()) == 2 * len(asking), "exposures")
    finally:
        engine.close()
    return Served(app, clicks)


def _clicked(users: Any, items: Any, random: np.random.Generator, at_us: int) -> pa.Table:  # noqa: ANN401
    clicked = population().clicks(users, items, random)
    keys = users.repeat(items.shape[1])[clicked.ravel()]
    at = pa.array(np.full(len(keys), at_us), pa.timestamp("us", "UTC"))
    return pa.table({"key": pa.array(keys), "time": at, "value": pa.array(np.ones(len(keys)))})


def test_truth_is_that_the_sharper_ranker_is_better() -> None:
    known = population()
    assert 0.05 < known.lift("sharp", over="blurred") < 0.25
    random, users = np.random.default_rng(1), np.arange(USERS)
    drawn = [known.clicks(users, known.slates["sharp"], random).sum() for _ in range(50)]
    assert np.mean(drawn) == pytest.approx(known.expected("sharp").sum(), rel=0.01)


@pytest.mark.parametrize("metric", ["mean", "ratio"])
def test_better_ranker_is_found_and_its_lift_is_the_true_one(
    metric: str, served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    found = served.report(capsys, served.app, "better", "--metric", metric)
    champion, challenger = found["variants"]
    assert (champion["name"], champion["users"] + challenger["users"]) == ("champion", USERS)
    assert champion["exposures"] + challenger["exposures"] == USERS * 5 // 4
    against = challenger["against"]
    assert against["p_value"] < 0.01
    assert 0 < against["lift_low"] < population().lift("sharp", over="blurred") < against["lift_high"]
    assert found["sample_ratio_p"] > 0.001
    assert found["left_out"]["users_crossed"] == found["left_out"]["outcomes_of_strangers"] == 0
    assert found["left_out"]["outcomes_before_exposure"] > 8_000


def test_two_that_are_alike_are_not_told_apart(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    found = served.report(capsys, served.app, "alike")
    against = found["variants"][1]["against"]
    assert against["low"] < 0 < against["high"]
    assert any("no difference found" in each for each in found["cautions"])


def test_the_past_makes_the_interval_narrower(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    plain = served.report(capsys, served.app, "better")["variants"][1]["against"]
    found = served.report(capsys, served.app, "better", "--covariate", str(served.clicks["better"]))
    against = found["variants"][1]["against"]
    assert found["variance_explained"] > 0.1
    assert against["high"] - against["low"] < plain["high"] - plain["low"]
    assert against["low"] > 0


def test_exported_exposures_say_what_the_log_does(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = ["--weights", "champion=50,challenger=50"]
    known = served.report(capsys, served.app, "better")
    for name in ("e.parquet", "e.arrow"):
        assert main(["export", str(served.app), "exposures", str(tmp_path / name)]) == 0
        assert capsys.readouterr().out == f"{tmp_path / name}: {USERS * 5 // 2} rows of log 'exposures'\n"
        assert served.report(capsys, tmp_path / name, "better", *weights) == known
    table = pq.read_table(tmp_path / "e.parquet")
    assert table.equals(pyarrow.feather.read_table(tmp_path / "e.arrow"))
    pyarrow.csv.write_csv(table, tmp_path / "e.csv")
    assert served.report(capsys, tmp_path / "e.csv", "better", *weights) == known
    assert sorted(each.name for each in tmp_path.iterdir()) == ["e.arrow", "e.csv", "e.parquet"]
