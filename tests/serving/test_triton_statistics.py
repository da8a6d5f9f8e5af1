"""What Triton servers count, as /metrics, the statistics call and `vireo explain` tell it. Against a real one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tritonclient.grpc import service_pb2 as pb

from engine import Engine, Request, Tensor, load_spec
from serving.account import Accounts
from serving.cli import main
from serving.dispatch import Dispatch
from serving.inference_service import InferenceService
from serving.metrics import Exposition
from serving.triton_metrics import TritonCollector
from tests.engine.servables.contract import floats
from tests.engine.triton.real import RealTriton
from tests.fakes import FP32, PATIENCE_S


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The spec of a model on Triton."""
    triton = RealTriton(tmp_path_factory.mktemp("triton"), ("scale",))
    file = tmp_path_factory.mktemp("app") / "app.yaml"
    file.write_text(f'triton_models: {{mine: {{servers: ["{triton.address}"], model: scale}}}}')
    try:
        triton.start()
        yield file
    finally:
        triton.kill()


@pytest.fixture(scope="module")
def engine(app: Path) -> Iterator[Engine]:
    engine = Engine(load_spec(app))
    engine.start()
    for rows in (1, 2, 4):
        engine.infer(Request("mine", {"x": Tensor(FP32, floats(rows, 3, rows))}))
    until = time.monotonic() + PATIENCE_S
    while not any(each.counts and each.counts.rows >= 7 for each in engine.triton_statistics()):
        assert time.monotonic() < until
        time.sleep(0.05)
    yield engine
    engine.close()


def test_metrics_tell_them_by_server(engine: Engine) -> None:
    (server,) = engine.triton_statistics()
    text = Exposition(TritonCollector(engine)).render("")[0].decode()
    labels = f'model="mine",server="{server.server}"'
    assert server.counts is not None
    assert f"vireo_triton_ready{{{labels}}} 1.0" in text
    assert f"vireo_triton_shared_memory_requests_total{{{labels}}} 0.0" in text
    assert f"vireo_triton_rows_total{{{labels}}} {float(server.counts.rows)}" in text
    assert f'vireo_triton_batches_total{{model="mine",rows="4",server="{server.server}"}} 1.0' in text
    assert f'vireo_triton_seconds_total{{{labels},stage="queue"}}' in text


def test_the_statistics_call_has_the_servers_stages_and_our_requests(engine: Engine) -> None:
    async def described() -> pb.ModelStatisticsResponse:
        return InferenceService(Dispatch(engine), Accounts(engine.clock, None)).describe_statistics("mine", "")

    (row,) = asyncio.run(described()).model_stats
    (server,) = engine.triton_statistics()
    assert server.counts is not None
    assert (row.inference_stats.success.count, row.inference_count) == (3, 7)
    assert row.inference_stats.compute_infer.ns == server.counts.compute_ns > 0
    assert row.inference_stats.queue.count == server.counts.requests
    assert {each.batch_size: each.compute_infer.count for each in row.batch_stats} == server.counts.batches


def test_explain_says_what_each_server_does(app: Path, engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    (server,) = engine.triton_statistics()
    assert main(["explain", str(app)]) == 0
    said = capsys.readouterr().out
    assert f"on {server.server}: answers; " in said
    assert "0 failed, in " in said
    assert "rows x batches: 1 x " in said
