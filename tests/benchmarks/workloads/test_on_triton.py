"""The fraud and the recommendation graph with their models on a real Triton: unchanged, they say what they say in process."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.graphs.on_triton import distance
from benchmarks.peers.triton_exported import export_models
from benchmarks.workloads.recommendation import application
from benchmarks.workloads.recommendation.served import running as shopping
from engine import Engine, Response, Spec, Tensor, load_spec
from engine.triton.declaration import TritonModelSpec
from tests.benchmarks.workloads.fraud.built import Decided
from tests.benchmarks.workloads.fraud.test_served_decision import Day, running, spec_of
from tests.benchmarks.workloads.recommendation.small import NOW_US, USERS, Shop, application_at
from tests.engine.triton.real import RealTriton

TRANSACTIONS, LISTS = 60, 20
Outputs = Mapping[str, Tensor]


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealTriton]:
    made = RealTriton(tmp_path_factory.mktemp("triton"), ())
    try:
        yield made
    finally:
        made.kill()


def hosting(triton: RealTriton, application: Path, folder: Path) -> dict[str, TritonModelSpec]:
    """The models of an application are on that Triton from now on."""
    names = export_models({"repository": {"path": "models"}}, application, folder)
    shutil.copytree(folder, triton.models, dirs_exist_ok=True)
    triton.kill()
    triton.start(names[-1])
    return {name: TritonModelSpec((triton.address,)) for name in names}


def with_models(spec: Spec, on_triton: Mapping[str, TritonModelSpec]) -> Spec:
    """The spec with these models instead of those in the process."""
    return replace(spec, repository=None, models={}, triton_models=on_triton)


def assert_alike(one: Outputs, other: Outputs) -> None:
    """Numbers to 1e-6, all else the same."""
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        if tensor.array.dtype.kind == "f":
            np.testing.assert_allclose(other[name].array, tensor.array, rtol=0, atol=1e-6, err_msg=name)
        else:
            assert other[name].array.tolist() == tensor.array.tolist(), name


def test_the_fraud_graph_says_the_same_with_its_models_on_triton(
    triton: RealTriton, decided: Decided, tmp_path: Path
) -> None:
    on_triton = hosting(triton, decided.application.folder, tmp_path / "exported")
    assert sorted(on_triton) == ["fraud_anomaly", "fraud_gbdt"]
    numbers = decided.application.expected().number[:TRANSACTIONS].tolist()
    answers: list[list[Response]] = []
    for name, models in (("here", None), ("there", on_triton)):
        spec = spec_of(decided, tmp_path / name)
        with running(spec if models is None else with_models(spec, models)) as engine:
            day = Day(engine, decided, numbers[0])
            answers.append([day.score(row) for row in numbers])
            day.settle()
            answers[-1].append(day.ask(numbers))
    assert sum((each.outputs["reasons"].array != b"").any() for each in answers[0]) > 1
    for one, other in zip(*answers, strict=True):
        assert_alike(one.outputs, other.outputs)


def test_the_recommendation_graph_lists_the_same_with_its_models_on_triton(triton: RealTriton, tmp_path: Path) -> None:
    shop = Shop(seed=5)
    served = application_at(tmp_path / "here", shop)
    on_triton = hosting(triton, served.folder, tmp_path / "exported")
    assert sorted(on_triton) == ["ranker", "user_tower"]
    other = application_at(tmp_path / "there", shop)
    answers = []
    for spec in (load_spec(served.spec), with_models(load_spec(other.spec), on_triton)):
        with shopping(spec) as engine:
            shop.fill(engine)
            assert engine.ready, engine.problems()
            answers.append([ask(engine, shop, user) for user in np.linspace(0, USERS - 1, LISTS).astype(int).tolist()])
    for one, another in zip(*answers, strict=True):
        assert_alike(one.outputs, another.outputs)


def test_a_number_beside_none_is_another_answer() -> None:
    one, nan, inf = (np.array([1.0, each], "<f4").tobytes() for each in (2.0, np.nan, np.inf))
    numbers = "FP32", one
    assert [distance(numbers, ("FP32", each)) for each in (one, nan, inf)] == [0.0, np.inf, np.inf]
    assert distance(("FP32", inf), ("FP32", inf)) == distance(("FP32", nan), ("FP32", nan)) == 0.0
    near = np.array([1.25, np.nan], "<f4").tobytes()
    assert distance(("FP32", nan), ("FP32", near)) == 0.25
    assert distance(numbers, None) == distance(numbers, ("BYTES", one)) == np.inf


def ask(engine: Engine, shop: Shop, user: int) -> Response:
    seen = shop.item[shop.user == user]
    return application.ask(engine, user, user % application.REGIONS, shop.history(user), seen, NOW_US)
