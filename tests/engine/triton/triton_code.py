"""Runs inside Triton: the models that the tests ask. Which one this is, the model's name says."""

import json
import time
from typing import Any

import numpy as np
import triton_python_backend_utils as pb  # type: ignore[import-not-found]


class TritonPythonModel:
    """What Triton's stub looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Knows itself by its name: `scale` doubles, `echo` gives back, `slow` sleeps, `count` counts in many answers."""
        config = json.loads(args["model_config"])
        self.name = config["name"]
        self.inputs = [each["name"] for each in config["input"]]
        self.factor = float(args["model_version"]) * 2

    def execute(self, requests: list[Any]) -> list[Any] | None:
        """One answer for each request; of `count`, many."""
        if self.name == "count":
            for request in requests:
                self.count(request)
            return None
        return [self.answer(request) for request in requests]

    def answer(self, request: Any) -> Any:  # noqa: ANN401
        """The answer of a model that gives one."""
        if self.name == "echo":
            return pb.InferenceResponse([self.echoed(request, name) for name in self.inputs])
        x = pb.get_input_tensor_by_name(request, "x").as_numpy()
        if self.name == "slow":
            time.sleep(float(x.max()) / 1e3)
        if np.isnan(x).any():
            return pb.InferenceResponse(error=pb.TritonError("x is not a number", pb.TritonError.INVALID_ARG))
        return pb.InferenceResponse([pb.Tensor("y", (x * self.factor).astype(np.float32))])

    def echoed(self, request: Any, name: str) -> Any:  # noqa: ANN401
        """One input as the output of its name."""
        given = pb.get_input_tensor_by_name(request, name)
        if name == "text":
            return pb.Tensor(f"{name}_back", given.as_numpy())
        return pb.Tensor.from_dlpack(f"{name}_back", given.to_dlpack())

    def count(self, request: Any) -> None:  # noqa: ANN401
        """0, 1, ... below what the request says."""
        sender = request.get_response_sender()
        for index in range(int(pb.get_input_tensor_by_name(request, "n").as_numpy()[0])):
            sender.send(pb.InferenceResponse([pb.Tensor("i", np.array([index], np.int32))]))
        sender.send(flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
