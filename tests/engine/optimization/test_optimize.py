"""New versions of a small network, a forest and others: what is written, what is refused, and what is left behind."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks.workloads.ranker.network import INPUT, make_network, to_onnx
from engine import FailedPrecondition, InvalidArgument, ResourceExhausted, Tensor
from engine.optimization.optimize import OptimizationSource, OptimizationWish, open_source, optimize
from engine.optimization.record import RECORD_FILE, read_record, told_of
from engine.optimization.rewrite import RewriteOptions
from engine.optimization.samples import Samples
from tests.engine import onnx_models
from tests.fakes import FP32

SIZES = (128, 64, 32, 1)
WISH = OptimizationWish("int8-dynamic", {"mean_abs": 0.05}, request_rows=(1, 20), runs=20, calibration_rows=64)


def samples(rows: int = 400, width: int = SIZES[0], name: str = INPUT) -> Samples:
    values = np.random.default_rng(3).normal(size=(rows, width)).astype(np.float32)
    return Samples("made.parquet", True, ({name: Tensor(FP32, values)},), np.arange(rows) // 20)


def opened(folder: Path, model: onnx.ModelProto) -> OptimizationSource:
    path = onnx_models.write(folder / "ranker" / "1", model)
    return open_source(folder / "ranker", 1, path, threads=1, rows_max=None)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[OptimizationSource]:
    found = opened(tmp_path, to_onnx(make_network(sizes=SIZES, seed=2)))
    yield found
    found.close()


def versions(source: OptimizationSource) -> list[str]:
    """Everything in the model's folder, hidden or not."""
    return sorted(os.listdir(source.model))


@pytest.mark.parametrize(
    ("step", "operator"),
    [("int8-dynamic", "MatMulInteger"), ("int8-static", "QuantizeLinear"), ("fp16", "Cast"), ("graph", "FusedGemm")],
)
def test_each_step_writes_a_version_that_says_nearly_the_same(
    source: OptimizationSource, step: str, operator: str
) -> None:
    before = source.file.read_bytes()
    written = optimize(source, samples(), replace(WISH, step=step))  # type: ignore[arg-type]
    assert (written.version, versions(source)) == (2, ["1", "2"])
    assert source.file.read_bytes() == before
    model = onnx.load(str(written.folder / "model.onnx"))
    assert operator in {node.op_type for node in model.graph.node}
    record = read_record(written.folder)
    assert record == written.record
    assert record is not None
    assert record.samples.calibration_rows == (64 if step == "int8-static" else 0)
    assert record.samples.judged_rows == 400 - record.samples.calibration_rows
    assert record.loss.mean_abs < 0.05
    assert record.loss.rank is not None
    assert record.loss.top_k is not None
    assert (record.loss.max_abs > 0) == (step != "graph")
    assert [each.rows for each in record.speed] == [1, 20]
    assert all(each.before.p50_us > 0 and each.after.cpu_us > 0 for each in record.speed)
    assert record.batched_after == (step != "int8-dynamic")  # whose scales come from all rows of a request
    assert {"onnxruntime", "onnx"} <= record.libraries.keys()
    notes, parameters = told_of(written.folder / "model.onnx")
    assert notes[0].startswith(f"{step} of version 1 (sha256 {record.source.sha256[:12]})")
    assert any("20 row(s): p50" in each for each in notes)
    assert parameters == {"optimization": record.text()}


def test_last_layer_stays_in_float_unless_told_otherwise(source: OptimizationSource) -> None:
    def float_layers(keep_float: tuple[str, ...] | None) -> int:
        wish = replace(WISH, options=RewriteOptions(keep_float=keep_float))
        model = onnx.load(str(optimize(source, samples(), wish).folder / "model.onnx"))
        return sum(node.op_type in ("MatMul", "Gemm") for node in model.graph.node)

    assert (float_layers(None), float_layers(())) == (1, 0)
    with pytest.raises(InvalidArgument, match="--keep-float: no node 'Gem_0'; nearest: 'Gemm_0'"):
        float_layers(("Gem_0",))


def test_version_that_loses_too_much_is_not_written(source: OptimizationSource) -> None:
    wish = replace(WISH, loss_max={"mean_abs": 0.0, "top_k": 1.0})
    with pytest.raises(
        FailedPrecondition, match=r"int8-dynamic loses too much: mean_abs 0\.\d+, at most 0 is allowed; noth"
    ):
        optimize(source, samples(), wish)
    assert versions(source) == ["1"]


def test_bound_on_a_loss_that_cannot_be_known_is_refused(source: OptimizationSource) -> None:
    with pytest.raises(InvalidArgument, match=r"--max-loss: auc is not known: it needs --outcome"):
        optimize(source, samples(), replace(WISH, loss_max={"auc": 0.1}))
    with pytest.raises(InvalidArgument, match=r"--max-loss: at least one"):
        optimize(source, samples(), replace(WISH, loss_max={}))
    assert versions(source) == ["1"]


def test_outcomes_tell_the_auc_before_and_after(source: OptimizationSource) -> None:
    given = samples()
    scores = source.servable.execute(given.requests[0], ())["score"].array.ravel()
    outcomes = tuple(np.array([float(each > np.median(scores))]) for each in scores)
    loss = optimize(source, replace(given, outcomes=outcomes), replace(WISH, loss_max={"auc": 0.05})).record.loss
    assert loss.auc_before == 1.0
    assert loss.auc_after is not None
    assert 0.95 < loss.auc_after <= 1.0


def test_rows_that_are_no_numbers_are_named_by_their_place_in_the_data(source: OptimizationSource) -> None:
    bad = samples()
    bad.requests[0][INPUT].array[0, 3] = np.nan  # the first row is always among those to calibrate on
    with pytest.raises(InvalidArgument, match=r"made\.parquet, row 0: input 'features' is no finite number"):
        optimize(source, bad, replace(WISH, step="int8-static"))
    with pytest.raises(InvalidArgument, match=r"made\.parquet: 0 row"):
        optimize(source, samples(0), WISH)
    assert versions(source) == ["1"]


def forest() -> onnx.ModelProto:
    """A tree of one split, as LightGBM's exporter writes them."""
    node = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=1,
        nodes_treeids=[0, 0, 0], nodes_nodeids=[0, 1, 2], nodes_featureids=[0, 0, 0], nodes_values=[0.5, 0.0, 0.0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"], nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 0, 0],
        target_treeids=[0, 0], target_nodeids=[1, 2], target_ids=[0, 0], target_weights=[1.0, 2.0],
    )  # fmt: skip
    shapes = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in (("x", 2), ("y", 1))
    ]
    graph = helper.make_graph([node], "forest", shapes[:1], shapes[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (
            "int8-dynamic",
            "8 bits cannot apply: they are for the weights of .* none of these, but TreeEnsembleRegressor",
        ),
        ("int8-static", "8 bits cannot apply"),
        ("fp16", "no weights that can be 16 bits wide: TreeEnsembleRegressor"),
        ("graph", "nothing to optimise in model.onnx"),
    ],
)
def test_step_that_cannot_change_a_forest_says_so(tmp_path: Path, step: str, told: str) -> None:
    source = opened(tmp_path, forest())
    with pytest.raises(FailedPrecondition, match=f"^{step}: {told}"):
        optimize(source, samples(40, 2, "x"), replace(WISH, step=step))  # type: ignore[arg-type]
    assert versions(source) == ["1"]


def test_weights_beside_the_model_stay_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "ranker" / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    model = to_onnx(make_network(sizes=SIZES, seed=2))
    onnx.save(model, str(path), save_as_external_data=True, location="w.bin", size_threshold=256)
    source = open_source(tmp_path / "ranker", 1, path, threads=1, rows_max=None)
    for step in ("int8-dynamic", "int8-static", "fp16", "graph"):
        written = optimize(source, samples(), replace(WISH, step=step))
        assert len(list(written.folder.iterdir())) == 3, step  # model, weights, record


def test_model_that_does_not_batch_is_judged_request_by_request(tmp_path: Path) -> None:
    network = to_onnx(make_network(sizes=SIZES, seed=2))
    for end in (network.graph.input[0], network.graph.output[0]):
        end.type.tensor_type.shape.dim[0].dim_value = 20
    source = opened(tmp_path, network)
    assert not source.servable.signature.batchable
    requests = tuple(samples().cut(20))
    record = optimize(source, Samples("made.npz", False, requests), replace(WISH, step="int8-static")).record
    assert (record.samples.calibration_rows, record.samples.judged_rows) == (10, 10)
    assert record.loss.rank is not None
    assert record.loss.rank < 0.1
    assert [each.rows for each in record.speed] == [1]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As if the disk were full: the system itself refuses to write more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("step", ["int8-dynamic", "fp16"])
def test_full_disk_is_told_and_leaves_nothing(source: OptimizationSource, step: str) -> None:
    with files_of_at_most(8_000), pytest.raises(ResourceExhausted, match="cannot write a version"):
        optimize(source, samples(), replace(WISH, step=step))  # type: ignore[arg-type]
    assert versions(source) == ["1"]


KILLED = """
import sys
from engine.optimization import optimize as module
from pathlib import Path
import os, signal
module.published = lambda draft: os.kill(os.getpid(), signal.SIGKILL)
from tests.engine.optimization.test_optimize import WISH, samples
source = module.open_source(Path(sys.argv[1]), 1, Path(sys.argv[1]) / "1" / "model.onnx", threads=1, rows_max=None)
module.optimize(source, samples(), WISH)
"""


def test_what_a_killed_process_left_is_no_version_and_goes_with_the_next(source: OptimizationSource) -> None:
    """Killed when all is written, and before it is renamed."""
    ended = subprocess.run([sys.executable, "-c", KILLED, str(source.model)], check=False, timeout=120)
    assert ended.returncode == -signal.SIGKILL
    left = [each for each in versions(source) if each != "1"]
    assert len(left) == 1
    assert left[0].startswith(".")
    assert (source.model / left[0] / RECORD_FILE).exists()
    assert optimize(source, samples(), WISH).version == 2
    assert versions(source) == ["1", "2"]


def test_record_that_is_damaged_or_of_another_file_is_told_and_takes_nothing_away(source: OptimizationSource) -> None:
    folder = optimize(source, samples(), WISH).folder
    (folder / "model.onnx").write_bytes(source.file.read_bytes())
    assert told_of(folder / "model.onnx") == (("optimization.json is of another file than this model.onnx",), {})
    (folder / RECORD_FILE).write_text('{"step": "warp"}')
    (note,), parameters = told_of(folder / "model.onnx")
    assert "optimization.json: cannot be read" in note
    assert not parameters
