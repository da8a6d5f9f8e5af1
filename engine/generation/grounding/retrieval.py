"""Passages for a question, found by a servable of the same engine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.generation.asking import Submit, asked
from engine.generation.call import GenerationCall
from engine.generation.grounding.passage import Passage, PassageTensors, passages_of
from engine.request import Request
from engine.tensor import BYTES, Tensor


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
        text = np.empty(1, object)
        text[0] = question.encode()
        request = Request(
            self.name, {self._question: Tensor(BYTES, text)}, id=call.id, outputs=self._tensors.names,
            deadline=call.deadline, priority=call.priority, trace=call.trace,
        )  # fmt: skip
        response = await asked(self._submit, request)
        return Found(passages_of(response.outputs, self._tensors), response.version)
