"""Requests of batch runs, and streams over Arrow Flight that say so, are of the class that goes behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import flight

from engine import BATCH, INTERACTIVE, Job, Request
from serving.cli import main
from tests.engine import onnx_models
from tests.serving.servers import ServerHere, spec_for

SPEC = "server: {grpc_port: 0, http_port: 0, flight_port: 0}\nrepository: {path: models}\n"
ROWS = pa.table({"x": pa.array(np.ones((8, 2), np.float32).tolist(), pa.list_(pa.float32(), 2))})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerHere]:
    """One model, served by gRPC and Flight."""
    onnx_models.write(tmp_path / "models" / "double" / "1", onnx_models.affine(2.0))
    (tmp_path / "app.yaml").write_text(SPEC)
    running = ServerHere(spec_for(SPEC, tmp_path, "native"))
    yield running
    running.stop()


@pytest.fixture
def classes(server: ServerHere, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The class of each request that reaches the engine."""
    seen: list[int] = []
    submit = server.engine.submit

    def noting(request: Request, *arguments: Any, **options: Any) -> Job:  # noqa: ANN401
        seen.append(request.priority)
        return submit(request, *arguments, **options)

    monkeypatch.setattr(server.engine, "submit", noting)
    return seen


def test_requests_of_a_batch_run_are_of_the_batch_class(server: ServerHere, classes: list[int], tmp_path: Path) -> None:
    pq.write_table(ROWS, tmp_path / "in.parquet")
    arguments = ["batch", str(tmp_path / "app.yaml"), "double", "--input", str(tmp_path / "in.parquet"), "--output",
                 str(tmp_path / "out.parquet"), "--batch-size", "4", "--server", server.address]  # fmt: skip
    assert main(arguments) == 0
    assert classes == [BATCH, BATCH]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [([], INTERACTIVE), ([(b"vireo-priority", b"batch")], BATCH), ([(b"vireo-priority", b"interactive")], INTERACTIVE)],
)
def test_a_flight_says_its_class_in_a_header(
    server: ServerHere, classes: list[int], headers: list[tuple[bytes, bytes]], expected: int
) -> None:
    (batch,) = ROWS.to_batches()
    with flight.connect(f"grpc://127.0.0.1:{server.host.flight_port}") as client:
        options = flight.FlightCallOptions(headers=headers)
        writer, reader = client.do_exchange(flight.FlightDescriptor.for_path("double"), options)
        with writer:
            writer.begin(batch.schema)
            writer.write_batch(batch)
            assert reader.read_chunk().data.num_rows == 8
            writer.done_writing()
    assert classes == [expected]


def test_an_unknown_class_is_refused(server: ServerHere) -> None:
    with flight.connect(f"grpc://127.0.0.1:{server.host.flight_port}") as client:
        options = flight.FlightCallOptions(headers=[(b"vireo-priority", b"slow")])
        with pytest.raises(pa.ArrowException, match="header vireo-priority: expected interactive or batch, got 'slow'"):
            list(client.list_flights(options=options))
