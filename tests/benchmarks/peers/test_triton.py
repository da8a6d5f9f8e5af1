"""Triton's folder, repository and command line; none of this needs Triton."""

import sys
import zipfile
from pathlib import Path

import pytest

from benchmarks.peers import triton
from benchmarks.peers.environments import NotInstalledError
from benchmarks.peers.triton import main, name_of, server_command, write_repository
from benchmarks.peers.triton_config import Backend
from benchmarks.peers.triton_package import STUB, TritonPackage, python_version
from benchmarks.workloads.ranker.network import make_network, to_onnx

ROOT = "pytriton/tritonserver"


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    file = tmp_path / "ranker.onnx"
    file.write_bytes(to_onnx(make_network(sizes=(4, 3, 1), seed=1)).SerializeToString())
    return file


def wheel_with(folder: Path, names: list[str]) -> Path:
    file = folder / "some.whl"
    with zipfile.ZipFile(file, "w") as packed:
        for name in names:
            packed.writestr(name, name)
    return file


def test_a_model_in_a_repository_is_called_as_its_folder_and_another_as_its_file(tmp_path: Path) -> None:
    assert name_of(tmp_path / "fraud" / "2" / "model.onnx") == "fraud"
    assert name_of(tmp_path / "fraud" / "ranker.onnx") == "ranker"
    assert name_of(tmp_path / "fraud" / "model.onnx") == "model"


def test_repository_holds_model_code_and_config(model_file: Path, tmp_path: Path) -> None:
    write_repository(tmp_path / "models", model_file, model="ranker", rows_max=800)
    place = tmp_path / "models" / "ranker"
    assert (place / "1" / "model.onnx").read_bytes() == model_file.read_bytes()
    assert "class TritonPythonModel" in (place / "1" / "model.py").read_text()
    assert "max_batch_size: 800\n" in (place / "config.pbtxt").read_text()


def test_repository_for_the_onnx_backend_holds_no_code(model_file: Path, tmp_path: Path) -> None:
    words = ["repository", "--model", str(model_file), "--out", str(tmp_path / "models"), "--backend", "onnxruntime"]
    assert main(words) == 0
    assert [each.name for each in (tmp_path / "models" / "ranker" / "1").iterdir()] == ["model.onnx"]
    assert Backend.ONNXRUNTIME.value in (tmp_path / "models" / "ranker" / "config.pbtxt").read_text()


def test_every_port_of_the_server_is_on_the_loopback(tmp_path: Path) -> None:
    quiet = server_command(TritonPackage(tmp_path), tmp_path, grpc_port=1, http_port=None)
    assert {"--allow-http=false", "--allow-metrics=false", "--grpc-address=127.0.0.1"} <= set(quiet)
    spoken = server_command(TritonPackage(tmp_path), tmp_path, grpc_port=1, http_port=2)
    assert {"--http-address=127.0.0.1", "--http-port=2"} <= set(spoken)


def test_stub_of_this_python_is_put_beside_its_backend_and_may_run(tmp_path: Path) -> None:
    stub, server = f"{ROOT}/python_backend_stubs/{python_version()}/{STUB}", f"{ROOT}/bin/tritonserver"
    unwanted = "pytriton/client/client.py"
    wheel = wheel_with(tmp_path, [stub, server, f"{ROOT}/backends/python/libtriton_python.so", unwanted])
    package = TritonPackage(tmp_path / "triton")
    package.unpack(wheel)
    placed = package.backends / "python" / STUB
    assert placed.read_text() == stub
    assert placed.stat().st_mode & 0o111
    assert package.server.stat().st_mode & 0o111
    assert not (package.folder / unwanted).exists()


def test_a_python_without_stub_is_refused(tmp_path: Path) -> None:
    wheel = wheel_with(tmp_path, [f"{ROOT}/python_backend_stubs/2.7/{STUB}", f"{ROOT}/bin/tritonserver"])
    with pytest.raises(NotInstalledError, match=f"no stub for Python {python_version()}"):
        TritonPackage(tmp_path / "triton").unpack(wheel)


def test_serving_without_triton_says_how_to_install_it(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(triton, "TritonPackage", lambda: TritonPackage(tmp_path / "nothing"))
    assert main(["serve", "--model", str(model_file), "--port", "1"]) == 2
    assert "python -m benchmarks.peers.triton install" in capsys.readouterr().err


def test_models_find_their_own_python_first(tmp_path: Path) -> None:
    found = TritonPackage(tmp_path).environment()
    assert found["PATH"].split(":")[0] == str(tmp_path / "python" / "bin")
    assert found["LD_LIBRARY_PATH"].split(":")[1].startswith(str(tmp_path))
    assert sys.prefix not in found["LD_LIBRARY_PATH"]
