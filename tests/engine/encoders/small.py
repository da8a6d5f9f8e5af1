"""A tokenizer of words and ONNX models over its tokens, small enough for their answers to be known by numpy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tokenizers
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from tokenizers import models, pre_tokenizers, processors

from engine import BYTES, Tensor
from tests.engine.onnx_models import FLOAT, INT64, Dim, graph, write

WORDS = "the sea is deep bright cold and a red fox runs home query : wind tide turns at noon bell".split()  # noqa: SIM905
TEXTS = ["the sea", "a red fox runs home", "cold", "", "the deep sea is cold and bright", "kelp"]
SIZE = 5
CLS, SEP = 1, 2
SHAPE: list[Dim] = ["rows", "tokens"]
FEEDS: dict[str, tuple[int, Sequence[Dim]]] = dict.fromkeys(
    ("input_ids", "attention_mask", "token_type_ids"), (INT64, SHAPE)
)


def table() -> npt.NDArray[np.float32]:
    """A vector for each word, of sixteenths: sums are exact in any order."""
    return np.random.default_rng(4).integers(-32, 32, (len(WORDS) + 3, SIZE)).astype(np.float32) / np.float32(16)


def tokenizer(folder: Path) -> Path:
    """[CLS] words [SEP], or [CLS] words [SEP] words [SEP] of a pair; a word not of WORDS is [UNK], number 0."""
    vocabulary = {word: number for number, word in enumerate(["[UNK]", "[CLS]", "[SEP]", *WORDS])}
    made = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tokenizer.json"
    made.save(str(path))
    return path


def ids_of(text: str) -> list[int]:
    """What the tokenizer gives."""
    return [CLS, *(WORDS.index(word) + 3 if word in WORDS else 0 for word in text.split()), SEP]


def _constant(name: str, value: npt.ArrayLike) -> TensorProto:
    return numpy_helper.from_array(np.asarray(value), name)


def encoder(*, mixing: bool = False) -> ModelProto:
    """hidden [rows, tokens, SIZE]: the vector of each token; with `mixing` plus the greatest value of all rows, as activations
    quantised at run time depend on each other."""
    nodes: list[NodeProto] = [helper.make_node("Gather", ["table", "input_ids"], ["hidden" if not mixing else "own"])]
    if mixing:
        nodes.append(helper.make_node("ReduceMax", ["own"], ["most"], keepdims=0))
        nodes.append(helper.make_node("Add", ["own", "most"], ["hidden"]))
    return graph(nodes, FEEDS, {"hidden": (FLOAT, [*SHAPE, SIZE])}, [_constant("table", table())])


def cross_encoder() -> ModelProto:
    """logit [rows, 1]: column 0 of the words of the query, less column 1 of those of the passage, summed."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["own"]),
        helper.make_node("Split", ["own", "parts"], ["left", "right"], axis=2),
        helper.make_node("Cast", ["token_type_ids"], ["second"], to=FLOAT),
        helper.make_node("Cast", ["attention_mask"], ["there"], to=FLOAT),
        helper.make_node("Sub", ["there", "second"], ["first"]),
        helper.make_node("Unsqueeze", ["first", "last"], ["first_"]),
        helper.make_node("Unsqueeze", ["second", "last"], ["second_"]),
        helper.make_node("Mul", ["left", "first_"], ["query"]),
        helper.make_node("Mul", ["right", "second_"], ["passage"]),
        helper.make_node("Sub", ["query", "passage"], ["both"]),
        helper.make_node("ReduceSum", ["both", "middle"], ["logit"], keepdims=0),
    ]
    constants = [
        _constant("table", table()[:, :2]),
        _constant("parts", np.array([1, 1])),
        _constant("last", np.array([2])),
        _constant("middle", np.array([1])),
    ]
    return graph(nodes, FEEDS, {"logit": (FLOAT, ["rows", 1])}, constants)


def files(folder: Path, model: ModelProto) -> tuple[str, str]:
    """Paths of the model and of the tokenizer, in `folder`."""
    return str(write(folder, model)), str(tokenizer(folder))


def texts_of(texts: Sequence[str | bytes]) -> Tensor:
    """BYTES [n]."""
    array = np.empty(len(texts), object)
    array[:] = [each.encode() if isinstance(each, str) else each for each in texts]
    return Tensor(BYTES, array)
