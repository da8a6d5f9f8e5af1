"""A graph as a language model: it is asked what a chat or completion call asks, and its text is the answer.

Of a graph that streams each response is the next piece of the text; any other gives it in one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import Any, Final

import orjson

from engine.errors import Internal, InvalidArgument, quoted
from engine.generation.asking import AskingModel, Submit, request_of
from engine.generation.call import GenerationAnswer, GenerationCall, GenerationKind, Served, asks_usage
from engine.generation.conversation import conversation_of
from engine.generation.graph.declaration import TextTensors
from engine.generation.sampling import check_sampling
from engine.generation.sse import DONE, event_bytes
from engine.generation.wording import Wording
from engine.request import Response
from engine.scheduling.streamed import streamed
from engine.servables.servable import Tensors
from engine.tensor import Tensor

_OUTPUTS: Final = ("answer", "finish_reason", "prompt_tokens", "completion_tokens")
_STOP: Final = "stop"

Usage = Mapping[str, int]


class TextGraph(AskingModel):
    """See the module. `servable`: the name that it asks."""

    kinds = frozenset((GenerationKind.CHAT, GenerationKind.COMPLETION))

    def __init__(self, name: str, servable: str, tensors: TextTensors, submit: Submit) -> None:
        super().__init__(name)
        self._servable, self._tensors, self._submit = servable, tensors, submit
        self._outputs = tuple(each for key in _OUTPUTS if (each := getattr(tensors, key)) is not None)

    async def answer(self, call: GenerationCall) -> GenerationAnswer:
        """See `LanguageModel`."""
        check_sampling(call.body)
        request = request_of(call, self._servable, _inputs(call, self._tensors), self._outputs)
        served = Served(request)
        pieces = _Pieces(served, streamed(partial(self._submit, at_once=True), request), self._tensors)
        wording = Wording.begun(call.kind, self._name)
        if call.streams:
            return GenerationAnswer(_events(pieces, wording, counted=asks_usage(call.body)), served=served)
        text = "".join([each async for each in pieces.texts()])
        return GenerationAnswer(orjson.dumps(wording.whole(text, pieces.reason, pieces.usage)), served=served)


class _Pieces:
    """The text of the responses, piece by piece; after the last one why it ended, and its tokens where they are told."""

    def __init__(self, served: Served, responses: AsyncGenerator[Response, None], tensors: TextTensors) -> None:
        self._served, self._responses, self._tensors = served, responses, tensors
        self.reason = _STOP
        self.usage: Usage | None = None

    async def texts(self) -> AsyncGenerator[str, None]:
        """To be read to its end, or closed. Raises what the servable does."""
        outputs: Tensors = {}
        try:
            async for response in self._responses:
                self._served.response, outputs = response, response.outputs
                yield _text(self._one(outputs, self._tensors.answer))
        finally:
            await self._responses.aclose()
        if self._tensors.finish_reason is not None and outputs:
            self.reason = _text(self._one(outputs, self._tensors.finish_reason)) or _STOP
        self.usage = self._counts(outputs)

    def _counts(self, outputs: Tensors) -> Usage | None:
        names = (self._tensors.prompt_tokens, self._tensors.completion_tokens)
        if names == (None, None) or not outputs:
            return None
        prompt, completion = (0 if name is None else int(self._one(outputs, name)) for name in names)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def _one(self, outputs: Tensors, name: str) -> Any:  # noqa: ANN401  an element of whatever the output has
        array = outputs[name].array
        if array.size != 1:
            model = quoted(self._served.request.model)
            raise Internal(f"model {model}: output {quoted(name)} must be of one row, got {list(array.shape)}")
        return array.reshape(-1)[0]


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


async def _events(pieces: _Pieces, wording: Wording, *, counted: bool) -> AsyncGenerator[bytes, None]:
    first = True
    texts = pieces.texts()
    try:
        async for text in texts:
            yield event_bytes(orjson.dumps(wording.piece(text, first=first)))
            first = False
    finally:
        await texts.aclose()
    yield event_bytes(orjson.dumps(wording.end(pieces.reason)))
    if counted:
        yield event_bytes(orjson.dumps(wording.counted(pieces.usage)))
    yield DONE


def _inputs(call: GenerationCall, tensors: TextTensors) -> dict[str, Tensor]:
    """What the graph is given. Raises InvalidArgument."""
    if call.kind is GenerationKind.CHAT:
        messages = call.body.get("messages")
        prompt = conversation_of(call.body).question
    else:
        prompt = _prompt(call.body.get("prompt"))
        messages = [{"role": "user", "content": prompt}]
    given: dict[str, str] = {}
    if tensors.prompt is not None:
        given[tensors.prompt] = prompt
    if tensors.messages is not None:
        given[tensors.messages] = _json("messages", messages)
    if tensors.body is not None:
        given[tensors.body] = _json("request body", call.body)
    if tensors.tenant is not None:
        given[tensors.tenant] = call.tenant or ""
    return {name: _tensor(name, text) for name, text in given.items()}


def _prompt(value: object) -> str:
    one = value[0] if isinstance(value, list) and len(value) == 1 else value
    if not isinstance(one, str):
        told = f"a list of {len(value)}" if isinstance(value, list) else quoted(str(value))
        raise InvalidArgument(f"prompt: expected one text, got {told}")
    if not one.strip():
        raise InvalidArgument("prompt: it is empty")
    return one


def _json(where: str, value: object) -> str:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError as error:  # too deep, or no Unicode
        raise InvalidArgument(f"{where}: cannot be read: {error}") from error


def _tensor(name: str, text: str) -> Tensor:
    try:
        return Tensor.from_texts([text])
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"{name}: is no Unicode text: {error.reason}") from error
