"""An isolation forest (Liu, Ting and Zhou 2008): how unlike the everyday a transaction is, whatever fraud has looked like so far.

Exported by hand as one ONNX tree ensemble, whose leaves hold path lengths: skl2onnx makes an operator of each tree, and a
request would wait for all of them.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.ensemble import IsolationForest
from sklearn.tree import DecisionTreeClassifier

from benchmarks.workloads.fraud.export import IR_VERSION, ML_OPSET, OPSET, float32_floor

MODEL, INPUT, OUTPUT = "fraud_anomaly", "features", "anomaly"
TREES, ROWS_A_TREE = 100, 256
EULER = 0.5772156649015329

Matrix = NDArray[np.float32]
Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Isolation:
    """The forest, and what stands for a missing value in each column: the median."""

    forest: IsolationForest
    medians: NDArray[np.float32]

    def scores(self, matrix: Matrix) -> Scores:
        """scikit-learn's own, from 0 (everyday) to 1."""
        scores: Scores = -self.forest.score_samples(np.where(np.isnan(matrix), self.medians, matrix))
        return scores


def train_isolation(matrix: Matrix, seed: int) -> Isolation:
    """A forest over rows of any label; the same rows and seed give the same forest."""
    unknown = np.isnan(matrix).all(axis=0)
    medians = np.nanmedian(np.where(unknown, np.float32(0), matrix), axis=0).astype(np.float32)
    filled = np.where(np.isnan(matrix), medians, matrix)
    forest = IsolationForest(n_estimators=TREES, max_samples=min(ROWS_A_TREE, len(matrix)), random_state=seed)
    return Isolation(forest.fit(filled), medians)


def isolation_onnx(isolation: Isolation) -> onnx.ModelProto:
    """INPUT FP32 [batch, features], NaN where missing, to OUTPUT FP32 [batch, 1]: 2 ** -(mean path length / expected one)."""
    features = len(isolation.medians)
    expected = len(isolation.forest.estimators_) * path_length(isolation.forest.max_samples_)
    constants = {
        "medians": isolation.medians,
        "scale": np.array([-np.log(2) / expected], np.float32),
    }
    nodes = [
        helper.make_node("IsNaN", [INPUT], ["missing"]),
        helper.make_node("Where", ["missing", "medians", INPUT], ["filled"]),
        helper.make_node("TreeEnsembleRegressor", ["filled"], ["lengths"], domain="ai.onnx.ml", **ensemble(isolation)),
        helper.make_node("Mul", ["lengths", "scale"], ["exponent"]),
        helper.make_node("Exp", ["exponent"], [OUTPUT]),
    ]
    graph = helper.make_graph(
        nodes,
        MODEL,
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", features])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="vireo")
    onnx.checker.check_model(model)
    return model


def path_length(rows: int | NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean path length of a search among so many rows that fails, c(n) of the paper."""
    count = np.asarray(rows, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        length = 2 * (np.log(count - 1) + EULER) - 2 * (count - 1) / count
    return np.where(count > 2, length, np.where(count == 2, 1.0, 0.0))


def ensemble(isolation: Isolation) -> dict[str, object]:
    """The attributes of the ONNX node that sums the path lengths."""
    columns: dict[str, list[object]] = {}
    for number, estimator in enumerate(isolation.forest.estimators_):
        for name, values in tree_columns(number, estimator).items():
            columns.setdefault(name, []).extend(values)
    return {**columns, "n_targets": 1, "aggregate_function": "SUM", "post_transform": "NONE"}


def tree_columns(number: int, estimator: DecisionTreeClassifier) -> dict[str, list[object]]:
    """One tree; scikit-learn compares float32 values with float64 thresholds, ONNX with float32 ones: see `export`."""
    tree = estimator.tree_
    nodes = np.arange(tree.node_count)
    leaves = np.flatnonzero(tree.children_left < 0)
    is_leaf = tree.children_left < 0
    lengths = depths(tree.children_left, tree.children_right)[leaves] + path_length(tree.n_node_samples[leaves])
    return {
        "nodes_treeids": [number] * len(nodes),
        "nodes_nodeids": nodes.tolist(),
        "nodes_featureids": np.where(is_leaf, 0, tree.feature).tolist(),
        "nodes_modes": ["LEAF" if leaf else "BRANCH_LEQ" for leaf in is_leaf],
        "nodes_values": float32_floor(np.where(is_leaf, 0.0, tree.threshold)).tolist(),
        "nodes_truenodeids": np.maximum(tree.children_left, 0).tolist(),
        "nodes_falsenodeids": np.maximum(tree.children_right, 0).tolist(),
        "nodes_missing_value_tracks_true": [0] * len(nodes),
        "target_treeids": [number] * len(leaves),
        "target_nodeids": leaves.tolist(),
        "target_ids": [0] * len(leaves),
        "target_weights": lengths.tolist(),
    }


def depths(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each node, how many splits lie above it; a child's number is above its parent's."""
    found = np.zeros(len(left), np.int64)
    for node in np.flatnonzero(left >= 0):
        found[left[node]] = found[right[node]] = found[node] + 1
    return found
