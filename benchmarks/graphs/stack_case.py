"""What the stack beside ours is asked: the fraud model, its columns shared out to three entities, requests, the right answers.

The same model file and as many features as ours has. The values are those of real transactions; which identity has which is of no
matter to their cost, so that of entity NAME number i are the columns of row i.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2

from benchmarks.fraud_inputs import INPUT, MODEL, OUTPUT, FraudInputs
from benchmarks.load.frames import join_frames, message_of, read_frames

Matrix = npt.NDArray[np.float32]

RAW_COLUMNS = 7
"""Columns of the model's row that come with the request."""

ENTITIES = ("card", "merchant", "device")
DIFFERENT = 1024


@dataclass(frozen=True, slots=True)
class Entity:
    """One hash a Redis key: its features' names, and a row of values for each identity."""

    name: str
    features: tuple[str, ...]
    values: Matrix


@dataclass(frozen=True, slots=True)
class StackCase:
    """`raw` are the names of request inputs (FP32 [1]), `messages` requests, `rows[i]` the model's row of request i."""

    model_file: Path
    model: str
    input: str
    output: str
    raw: tuple[str, ...]
    entities: tuple[Entity, ...]
    messages: tuple[bytes, ...]
    rows: Matrix

    @property
    def version(self) -> int:
        """Of the model, which lies in a repository: NAME/VERSION/model.onnx."""
        return int(self.model_file.parent.name)

    def write_frames(self, out: Path) -> Path:
        """The requests as the generator wants them."""
        file = out / "stack.frames"
        file.write_bytes(join_frames(self.messages))
        return file

    def scores(self) -> Matrix:
        """What ONNX Runtime says of each request's row."""
        import os

        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        session = onnxruntime.InferenceSession(str(self.model_file), providers=["CPUExecutionProvider"])
        (found,) = session.run([self.output], {self.input: self.rows})
        scores: Matrix = found[:, 0]
        return scores


def stack_case(inputs: FraudInputs, seed: int, *, version: int = 1) -> StackCase:
    """The case made of the fraud workload's own requests."""
    seen = rows_of(inputs.frames)
    shares = np.array_split(np.arange(RAW_COLUMNS, seen.shape[1]), len(ENTITIES))
    entities = tuple(
        Entity(name, tuple(f"{name}_{index}" for index in range(len(columns))), np.ascontiguousarray(seen[:, columns]))
        for name, columns in zip(ENTITIES, shares, strict=True)
    )
    raw = tuple(f"raw_{index}" for index in range(RAW_COLUMNS))
    rng = np.random.default_rng(seed)
    raws = seen[rng.integers(0, len(seen), DIFFERENT), :RAW_COLUMNS]
    keys = {entity.name: rng.integers(0, len(seen), DIFFERENT) for entity in entities}
    rows = np.concatenate([raws, *(entity.values[keys[entity.name]] for entity in entities)], axis=1)
    messages = tuple(
        infer_message(dict(zip(raw, raws[index], strict=True)), {name: int(each[index]) for name, each in keys.items()})
        for index in range(DIFFERENT)
    )
    return StackCase(inputs.model_file(version), MODEL, INPUT, OUTPUT, raw, entities, messages, rows)


def rows_of(frames: Path) -> Matrix:
    """The feature rows inside the workload's requests."""
    requests = [service_pb2.ModelInferRequest.FromString(message_of(each)) for each in read_frames(frames)]
    return np.stack([np.frombuffer(each.raw_input_contents[0], "<f4") for each in requests])


def infer_message(raw: dict[str, np.float32], keys: dict[str, int]) -> bytes:
    """A request of scalars, each a tensor of one row."""
    call = service_pb2.ModelInferRequest(model_name=MODEL)
    for name, value in raw.items():
        call.inputs.add(name=name, datatype="FP32", shape=[1])
        call.raw_input_contents.append(np.float32(value).tobytes())
    for name, key in keys.items():
        call.inputs.add(name=name, datatype="INT64", shape=[1])
        call.raw_input_contents.append(np.int64(key).tobytes())
    message: bytes = call.SerializeToString(deterministic=True)
    return message
