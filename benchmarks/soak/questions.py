"""Requests whose right answer is known beforehand, and the judge of answers. It knows no transport.

Sizes are spread evenly over their logarithm: as many requests between 256 and 512 bytes as between 2 and 4 MB.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from benchmarks.fraud_inputs import INPUT, MODEL, OUTPUT, FraudInputs
from benchmarks.load.frames import message_of, read_frames

Array = NDArray[Any]

BYTES_MIN, BYTES_MAX = 256, 4 << 20
ROWS_MAX = 8
STRINGS_MAX = 64
FRAUD_TOLERANCE = 1e-6
"""Rows computed together differ by some 1e-7 from rows computed alone: their sums are added up in another order."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value with the name its datatype has on the wire; strings are objects of bytes."""

    datatype: str
    array: Array


@dataclass(frozen=True, slots=True)
class Question:
    """A request, and what is to come back as `output`."""

    model: str
    inputs: dict[str, Tensor]
    expected: Tensor
    output: str = "y"
    tolerance: float = 0.0

    def is_right(self, answer: Array) -> bool:
        """Whether this is the expected answer, shape included."""
        expected = self.expected.array
        if answer.shape != expected.shape:
            return False
        if self.tolerance:
            return bool(np.allclose(answer, expected, rtol=0, atol=self.tolerance))
        return bool(np.array_equal(answer, expected))


@dataclass(frozen=True, slots=True)
class Material:
    """What questions are cut from: rows for the fraud model, the model's own scores of them, and numbers of no meaning."""

    rows: Array
    scores: Array
    noise: Array


def gather(inputs: FraudInputs, seed: int) -> Material:
    """The rows of the requests that all benchmarks send, scored here by the model that the soak serves."""
    messages = [service_pb2.ModelInferRequest.FromString(message_of(each)) for each in read_frames(inputs.frames)]
    rows = np.concatenate(
        [np.frombuffer(each.raw_input_contents[0], "<f4").reshape(each.inputs[0].shape) for each in messages]
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(inputs.model_file(2)), options, providers=["CPUExecutionProvider"])
    noise = np.random.default_rng(seed).standard_normal(2 * BYTES_MAX // 4, np.float32)
    return Material(rows, session.run([OUTPUT], {INPUT: rows})[0], noise)


@dataclass(slots=True)
class Questions:
    """Draws questions, the same ones for the same seed."""

    rng: Random
    material: Material
    bytes_max: int = BYTES_MAX

    def any(self) -> Question:
        """One of whatever kind."""
        kinds: list[Callable[[], Question]] = [self.fraud, self.negate, self.fill, self.slow, self.shout]
        (ask,) = self.rng.choices(kinds, [6, 3, 1, 1, 2])
        return ask()

    def fraud(self, model: str = MODEL) -> Question:
        """Some rows for the fraud model."""
        count = self.rng.randint(1, ROWS_MAX)
        first = self.rng.randrange(len(self.material.rows) - count)
        rows, scores = (each[first : first + count] for each in (self.material.rows, self.material.scores))
        return Question(model, {INPUT: Tensor("FP32", rows)}, Tensor("FP32", scores), OUTPUT, FRAUD_TOLERANCE)

    def negate(self, bytes_size: int | None = None) -> Question:
        """As much out as in."""
        values = self._values(bytes_size or self.any_size())
        return Question("negate", {"x": Tensor("FP32", values)}, Tensor("FP32", -values))

    def fill(self, bytes_size: int | None = None) -> Question:
        """A small request with an answer of any size."""
        count = (bytes_size or self.any_size()) // 4
        numbers = np.arange(count, dtype=np.float32)
        return Question("fill", {"count": Tensor("INT32", np.array([count], np.int32))}, Tensor("FP32", numbers))

    def slow(self, sleep_ms: int | None = None) -> Question:
        """Takes `sleep_ms`, or up to 30."""
        value = np.array([self.rng.randrange(1 << 30)], np.int32)
        chosen = self.rng.randint(0, 30) if sleep_ms is None else sleep_ms
        inputs = {"value": Tensor("INT32", value), "sleep_ms": Tensor("INT32", np.array([chosen], np.int32))}
        return Question("slow", inputs, Tensor("INT32", value + 1))

    def shout(self) -> Question:
        """Strings of any length, some empty."""
        texts = [self._text() for _ in range(self.rng.randint(1, STRINGS_MAX))]
        loud = [each.upper() for each in texts]
        return Question("shout", {"text": strings(texts)}, strings(loud))

    def refused(self) -> Question:
        """One that the model refuses as a wrong argument."""
        values = np.ones(self.any_size() // 4, np.float32)
        return Question("refuse", {"x": Tensor("FP32", values)}, Tensor("FP32", values))

    def any_size(self) -> int:
        """Bytes, a multiple of 4, evenly over their logarithm."""
        return int(BYTES_MIN * (self.bytes_max / BYTES_MIN) ** self.rng.random()) // 4 * 4

    def _values(self, bytes_size: int) -> Array:
        count = bytes_size // 4
        first = self.rng.randrange(len(self.material.noise) - count)
        return self.material.noise[first : first + count]

    def _text(self) -> bytes:
        return b"abcdefghijklmnopqrstuvwxyz"[: self.rng.randint(0, 26)] * self.rng.randint(0, 8)


def strings(texts: list[bytes]) -> Tensor:
    """A tensor of strings."""
    return Tensor("BYTES", np.array(texts, object))
