"""The cross-encoder as ONNX, from its weights by name; built by hand, so torch's exporter and what it needs are not wanted.

Inputs `input_ids`, `attention_mask`, `token_type_ids` INT64 [rows, tokens]; output `logit` FP32 [rows].
"""

import numpy as np
import onnx
from onnx import TensorProto

from benchmarks.workloads.drawing import Drawing, Inputs
from benchmarks.workloads.retrieval.embedding import Weights

LAYERS, HEADS = 6, 12
EPSILON = 1e-12
_SHAPE: list[int | str] = ["rows", "tokens"]
INPUTS: Inputs = dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), (TensorProto.INT64, _SHAPE))


def cross_encoder(weights: Weights) -> onnx.ModelProto:
    """What `training.cross_encoder.CrossEncoder.forward` computes."""
    draw, hidden = body(weights)
    second = draw.add("Cast", ["token_type_ids"], "second", to=TensorProto.FLOAT)
    draw.hold("least", np.array(1e-12, np.float32))
    for name, axis in (("first_axis", 1), ("last_axis", -1)):
        draw.hold(name, np.atleast_1d(np.array(axis)))
    query = _mean(draw, hidden, draw.add("Sub", ["there", second], "first"), "query")
    passage = _mean(draw, hidden, second, "passage")
    product = draw.add("Mul", [_unit(draw, query), _unit(draw, passage)], "product")
    both = draw.add("Concat", [product, passage], "both", axis=1)
    draw.add("MatMul", [both, draw.hold("head.weight", weights["head.weight"])], "logit")
    return draw.model("cross_encoder", INPUTS, "logit", ["rows"])


def body(weights: Weights) -> tuple[Drawing, str]:
    """A drawing of the body alone, with `INPUTS`, and the name of its hidden states, FP32 [rows, tokens, size]."""
    draw = Drawing(weights)
    for name, value in (("one", 1.0), ("half", 0.5), ("root", 2**0.5), ("far", -1e9)):
        draw.hold(name, np.array(value, np.float32))
    size = weights["embeddings.LayerNorm.bias"].shape[0]
    draw.hold("heads_axes", np.array([1, 2]))
    draw.hold("apart", np.array([0, 0, HEADS, size // HEADS]))
    draw.hold("together", np.array([0, 0, size]))
    draw.hold("scale", np.array((size // HEADS) ** -0.5, np.float32))
    hidden = _embedded(draw)
    there = draw.add("Cast", ["attention_mask"], "there", to=TensorProto.FLOAT)
    hiding = draw.add("Mul", [draw.add("Sub", ["one", there], "absent"), "far"], "hiding.flat")
    draw.add("Unsqueeze", [hiding, "heads_axes"], "hiding")
    for layer in range(LAYERS):
        hidden = _layer(draw, hidden, f"encoder.layer.{layer}")
    return draw, hidden


def _embedded(draw: Drawing) -> str:
    word, place, segment = (f"embeddings.{each}_embeddings.weight" for each in ("word", "position", "token_type"))
    held = {name: draw.hold(name, draw.weights[name]) for name in (word, place, segment)}
    words = draw.add("Gather", [held[word], "input_ids"], "words")
    segments = draw.add("Gather", [held[segment], "token_type_ids"], "segments")
    shape = draw.add("Shape", ["input_ids"], "shape", start=1)
    places = draw.add("Slice", [held[place], draw.hold("begin", np.array([0])), shape, draw.hold("rows_axis", np.array([0]))],
                      "places")  # fmt: skip
    total = draw.add("Add", [draw.add("Add", [words, segments], "worded"), places], "placed")
    return _normed(draw, total, "embeddings.LayerNorm")


def _layer(draw: Drawing, hidden: str, name: str) -> str:
    query, key, value = (_heads(draw, hidden, f"{name}.attention.self.{each}") for each in ("query", "key", "value"))
    turned = draw.add("Transpose", [key], f"{name}.turned", perm=[0, 1, 3, 2])
    alike = draw.add("Mul", [draw.add("MatMul", [query, turned], f"{name}.alike"), "scale"], f"{name}.scaled")
    shares = draw.add("Softmax", [draw.add("Add", [alike, "hiding"], f"{name}.shown")], f"{name}.shares", axis=-1)
    seen = draw.add(
        "Transpose", [draw.add("MatMul", [shares, value], f"{name}.seen")], f"{name}.turned_back", perm=[0, 2, 1, 3]
    )
    seen = draw.add("Reshape", [seen, "together"], f"{name}.joined")
    seen = draw.linear(f"{name}.attention.output.dense", seen)
    hidden = _normed(draw, draw.add("Add", [hidden, seen], f"{name}.attended"), f"{name}.attention.output.LayerNorm")
    inner = _gelu(draw, draw.linear(f"{name}.intermediate.dense", hidden))
    more = draw.linear(f"{name}.output.dense", inner)
    return _normed(draw, draw.add("Add", [hidden, more], f"{name}.changed"), f"{name}.output.LayerNorm")


def _heads(draw: Drawing, hidden: str, name: str) -> str:
    apart = draw.add("Reshape", [draw.linear(name, hidden), "apart"], f"{name}.apart")
    return draw.add("Transpose", [apart], f"{name}.heads", perm=[0, 2, 1, 3])


def _normed(draw: Drawing, value: str, name: str) -> str:
    parts = [draw.hold(f"{name}.{each}", draw.weights[f"{name}.{each}"]) for each in ("weight", "bias")]
    return draw.add("LayerNormalization", [value, *parts], f"{name}.normed", epsilon=EPSILON)


def _gelu(draw: Drawing, value: str) -> str:
    """x / 2 * (1 + erf(x / sqrt(2)))."""
    erf = draw.add("Erf", [draw.add("Div", [value, "root"], f"{value}.over")], f"{value}.erf")
    return draw.add("Mul", [draw.add("Mul", [value, "half"], f"{value}.half"),
                            draw.add("Add", [erf, "one"], f"{value}.above")], f"{value}.gelu")  # fmt: skip


def _mean(draw: Drawing, hidden: str, mask: str, name: str) -> str:
    weights = draw.add("Unsqueeze", [mask, "last_axis"], f"{name}.weights")
    total = draw.add(
        "ReduceSum", [draw.add("Mul", [hidden, weights], f"{name}.own"), "first_axis"], f"{name}.total", keepdims=0
    )
    return draw.add(
        "Div", [total, draw.add("ReduceSum", [weights, "first_axis"], f"{name}.count", keepdims=0)], f"{name}.mean"
    )


def _unit(draw: Drawing, value: str) -> str:
    length = draw.add("ReduceL2", [value], f"{value}.length", axes=[1], keepdims=1)
    return draw.add("Div", [value, draw.add("Max", [length, "least"], f"{value}.length_bounded")], f"{value}.unit")
