"""The benchmark beside Triton where there is no Triton: what it asks of servers, compares and skips."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks import __main__ as command_line
from benchmarks import bench_wire
from benchmarks.bench_wire import (
    Contender,
    difference,
    differences_from,
    is_met,
    names_of,
    starts,
    triton_elsewhere,
    workloads,
)
from benchmarks.fraud_inputs import FraudInputs
from benchmarks.harness import ServerError, free_port
from benchmarks.load.frames import join_frames
from benchmarks.options import Options, parse_options
from benchmarks.peers.native_front import NAME as FRONT
from benchmarks.peers.native_front import FrontEnvironment
from benchmarks.peers.triton_package import TritonPackage
from benchmarks.servers import vireo_spec


class Adder(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers a row with itself plus `offset`."""

    def __init__(self, offset: float) -> None:
        self.offset = offset

    def ModelInfer(self, request: service_pb2.ModelInferRequest, context: object) -> service_pb2.ModelInferResponse:  # noqa: N802
        row = np.frombuffer(request.raw_input_contents[0], np.float32) + np.float32(self.offset)
        reply = service_pb2.ModelInferResponse(model_name=request.model_name)
        reply.outputs.add(name="y", datatype="FP32", shape=row.shape)
        reply.raw_output_contents.append(row.tobytes())
        return reply


@pytest.fixture
def contenders() -> Iterator[list[Contender]]:
    with ThreadPoolExecutor(4) as pool:
        found, servers = [], []
        for name, offset in (("rival", 0.0), ("same", 0.0), ("other", 0.25)):
            servers.append(grpc.server(pool))
            service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Adder(offset), servers[-1])
            found.append(Contender(name, "127.0.0.1", servers[-1].add_insecure_port("127.0.0.1:0"), None))
            servers[-1].start()
        yield found
        for server in servers:
            server.stop(None).wait()


def frames_of(rows: list[list[float]]) -> bytes:
    calls = []
    for row in rows:
        call = service_pb2.ModelInferRequest(model_name="m")
        call.inputs.add(name="x", datatype="FP32", shape=[len(row)])
        call.raw_input_contents.append(np.array(row, np.float32).tobytes())
        calls.append(call.SerializeToString())
    return join_frames(calls)


def test_answers_of_all_servers_are_compared_with_the_rivals(contenders: list[Contender], tmp_path: Path) -> None:
    file = tmp_path / "some.frames"
    file.write_bytes(frames_of([[1.0, 2.0], [3.0, 4.0]]))
    assert differences_from("rival", contenders, file) == {"same": 0.0, "other": 0.25}


def test_answers_of_another_form_are_infinitely_far() -> None:
    row, column = np.zeros((1, 2), np.float32), np.zeros((2, 1), np.float32)
    assert difference({"y": row}, {"y": column}) == math.inf
    assert difference({"y": row}, {"z": row}) == math.inf
    assert difference({"y": row}, {"y": row + 1}) == 1.0


def test_without_triton_the_benchmark_is_skipped_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_wire, "TritonPackage", lambda: TritonPackage(tmp_path / "nothing"))
    assert command_line.main(["wire", "--out", str(tmp_path)]) == 0
    assert "wire is skipped: no Triton is installed here; 'python -m benchmarks.peers.triton install'" in (
        capsys.readouterr().out
    )
    assert not (tmp_path / "wire.json").exists()


def test_a_triton_elsewhere_must_answer() -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(ServerError, match=f"no Triton at {address} is ready with a model 'fraud'"):
        triton_elsewhere(address, "Triton", "fraud")


def test_the_first_transport_is_judged_and_vireo_chooses_where_none_is_asked_for() -> None:
    assert names_of(Options()).ours == "vireo"
    both = Options(transports=("native", "grpcio"))
    assert names_of(both).ours == "vireo native"
    assert len(starts(both)) == len(starts(Options())) + 1


def test_a_triton_elsewhere_takes_the_place_of_ours_and_is_named() -> None:
    options = Options(triton="10.0.0.5:8001")
    assert names_of(options).rival == "Triton at 10.0.0.5:8001"
    assert not names_of(options).rival_is_promised
    assert names_of(options).plain is None
    assert len(starts(options)) == len(starts(Options())) - 2


def test_the_bare_front_is_measured_and_named_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = SimpleNamespace(installed=True)
    monkeypatch.setattr(bench_wire, "FrontEnvironment", lambda: FrontEnvironment(tmp_path / "nothing"))
    assert (names_of(Options()).front, len(starts(Options()))) == (None, 3)
    monkeypatch.setattr(bench_wire, "FrontEnvironment", lambda: there)
    assert (names_of(Options()).front, len(starts(Options()))) == (FRONT, 4)


def test_triton_without_batching_is_measured_under_few_numbers_of_callers() -> None:
    plain = names_of(Options()).plain
    assert plain is not None
    assert [callers for callers in (1, 8, 32, 64) if is_met(plain, callers)] == [1, 32]
    assert all(is_met(names_of(Options()).rival, callers) for callers in (1, 8, 32, 64))


def test_transport_is_written_only_when_asked_for(tmp_path: Path) -> None:
    plain = vireo_spec(models=tmp_path, grpc_port=1, http_port=2, model="ranker", rows_max=800)
    asked = vireo_spec(models=tmp_path, grpc_port=1, http_port=2, transport="grpcio")
    assert plain["server"] == {"name": "bench", "host": "127.0.0.1", "grpc_port": 1, "http_port": 2}
    assert plain["models"] == {"ranker": {"batching": {"rows_max": 800}}}
    assert asked["server"] == {**plain["server"], "transport": "grpcio"}


def test_both_models_carry_their_promises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_wire, "fraud_inputs", lambda root: FraudInputs(root / "models", root / "frames"))
    fraud, ranker = workloads(Options(inputs=tmp_path))
    assert (fraud.model, fraud.bars.cpu_us_max, fraud.bars.cpu_of_bare_max, fraud.bars.p99) == (
        "fraud",
        44.0,
        None,
        True,
    )
    assert (ranker.model, ranker.bars.cpu_us_max, ranker.bars.cpu_of_bare_max) == ("ranker", None, 1.5)
    assert (fraud.bars.beside_plain, ranker.bars.beside_plain) == (False, True)
    assert ranker.model_file.exists()


def test_options_of_the_benchmark_are_read_and_checked(capsys: pytest.CaptureFixture[str]) -> None:
    read = parse_options("", ["--transports", "native,grpcio,native", "--triton", "localhost:8001"])
    assert (read.transports, read.triton) == (("native", "grpcio"), "localhost:8001")
    for wrong in (["--transports", "native,tcp"], ["--triton", "localhost"], ["--triton", ":8001"]):
        with pytest.raises(SystemExit):
            parse_options("", wrong)
    assert "tcp is not among native, grpcio, auto" in capsys.readouterr().err
