"""Runs inside Triton: an ONNX model in its Python backend, every request of a batch in one call of the session.

Triton's stub loads this file as `model.py`, beside `model.onnx`; it knows nothing of ours. As lean as the backend
allows: no copy where a batch is one request, one concatenation and one split where it is more.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb  # type: ignore[import-not-found]


class TritonPythonModel:
    """What the stub looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model; one thread within an operator, as the rival beside it has."""
        config = json.loads(args["model_config"])
        self.batches = config["max_batch_size"] > 0
        self.inputs = [each["name"] for each in config["input"]]
        self.texts = [each["name"] for each in config["input"] if each["data_type"] == "TYPE_STRING"]
        self.outputs = [each["name"] for each in config["output"]]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        file = str(Path(__file__).with_name("model.onnx"))
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """One answer for each request, in order."""
        fed = [self.feed(request) for request in requests]
        if len(fed) > 1 and self.batches:
            return self.run_together(fed)
        return [self.answer(self.session.run(self.outputs, feed)) for feed in fed]

    def feed(self, request: Any) -> dict[str, Any]:  # noqa: ANN401 - Triton's own type
        """A request's inputs; strings arrive as bytes, and ONNX Runtime wants them as text."""
        found = {name: pb.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}
        for name in self.texts:
            found[name] = np.vectorize(bytes.decode, otypes=[object])(found[name])
        return found

    def run_together(self, fed: list[dict[str, Any]]) -> list[Any]:
        """All rows in one run, each request's own taken out again."""
        first = self.inputs[0]
        joined = {name: np.concatenate([feed[name] for feed in fed]) for name in self.inputs}
        found = self.session.run(self.outputs, joined)
        answers, start = [], 0
        for feed in fed:
            stop = start + len(feed[first])
            answers.append(self.answer([values[start:stop] for values in found]))
            start = stop
        return answers

    def answer(self, values: list[Any]) -> Any:  # noqa: ANN401 - Triton's own type
        """A response of these outputs."""
        return pb.InferenceResponse([pb.Tensor(name, each) for name, each in zip(self.outputs, values, strict=True)])
