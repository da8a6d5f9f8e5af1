"""Passages for a question, found by a servable of the same engine."""

from __future__ import annotations

from dataclasses import dataclass

from engine.generation.asking import Submit, asked, request_of
from engine.generation.call import GenerationCall
from engine.generation.grounding.passage import Passage, PassageTensors, passages_of
from engine.tensor import Tensor


@dataclass(frozen=True, slots=True)
class Found:
    """What one request found, and the version of what found it."""

    passages: list[Passage]
    version: int


class Retrieval:
    """Asks `name`, whose input `question` is BYTES [1]. For one event loop."""

    def __init__(self, submit: Submit, name: str, question: str, tensors: PassageTensors) -> None:
        self.name = name
        self._submit, self._question, self._tensors = submit, question, tensors

    async def find(self, question: str, call: GenerationCall) -> Found:
        """Within the call's deadline and class. Cancelling drops the request. Raises what the servable does."""
        inputs = {self._question: Tensor.from_texts([question])}
        request = request_of(call, self.name, inputs, self._tensors.names)
        response = await asked(self._submit, request)
        return Found(passages_of(response.outputs, self._tensors), response.version)
