"""Encoders and rerankers of the spec as language models: embeddings as the OpenAI API has them, reranking and scores as vLLM has.

Embeddings: `input` is a text or a list of them, `encoding_format` `float` or `base64` (little-endian float32), `dimensions` the
length or left out, `input_type` the name of a prompt of the encoder. Reranking: `query`, `documents` (texts, or objects with
`text`), `top_n`, `return_documents`; results come best first. Scores: `text_1`, one or as many as of `text_2`, which are scored
against it, in their order.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import orjson

from engine.encoders.relations import EMBEDDING, PASSAGE, PROMPT, QUERY, SCORE, TEXT, TOKENS
from engine.errors import InvalidArgument, quoted
from engine.generation.asking import AskingModel, Submit, asked
from engine.generation.call import GenerationAnswer, GenerationCall, GenerationKind
from engine.limits import ENCODER_TEXTS_MAX
from engine.request import Request
from engine.servables.servable import Tensors
from engine.tensor import BYTES, Array, Tensor

Body = Mapping[str, Any]
_FORMATS: Final = ("float", "base64")


class _Encoding(AskingModel):
    """What both have. `servable`: what it asks."""

    def __init__(self, name: str, servable: str, submit: Submit) -> None:
        super().__init__(name)
        self._servable, self._submit = servable, submit

    async def _asked(self, call: GenerationCall, inputs: Tensors) -> Tensors:
        request = Request(
            self._servable, inputs, id=call.id, deadline=call.deadline, priority=call.priority, trace=call.trace
        )
        return (await asked(self._submit, request)).outputs


class EmbeddingModel(_Encoding):
    """An encoder. See the module."""

    kinds = frozenset((GenerationKind.EMBEDDING,))

    async def answer(self, call: GenerationCall) -> GenerationAnswer:
        """See `LanguageModel`."""
        body = call.body
        texts = _texts("input", body.get("input"))
        written = body.get("encoding_format") or "float"
        if written not in _FORMATS:
            raise InvalidArgument(f"encoding_format: expected {' or '.join(_FORMATS)}, got {quoted(str(written))}")
        inputs = {TEXT: _column(texts)}
        if (kind := body.get("input_type")) is not None:
            inputs[PROMPT] = _column([_text("input_type", kind)] * len(texts))
        outputs = await self._asked(call, inputs)
        vectors, tokens = outputs[EMBEDDING].array, int(outputs[TOKENS].array.sum())
        _check_dimensions(body.get("dimensions"), vectors.shape[1])
        data = [
            {"object": "embedding", "index": at, "embedding": _written(vector, written)}
            for at, vector in enumerate(vectors)
        ]
        return _answer({"object": "list", "data": data, "model": self._name, "usage": _usage(tokens)})


class RerankingModel(_Encoding):
    """A reranker. See the module."""

    kinds = frozenset((GenerationKind.RERANK, GenerationKind.SCORE))

    async def answer(self, call: GenerationCall) -> GenerationAnswer:
        """See `LanguageModel`."""
        return await (self._reranked(call) if call.kind is GenerationKind.RERANK else self._scored(call))

    async def _reranked(self, call: GenerationCall) -> GenerationAnswer:
        body = call.body
        query = _text("query", body.get("query"))
        documents = _documents(body.get("documents"))
        count = _count(body.get("top_n"), len(documents))
        scores, tokens = await self._scores(call, [query], [documents])
        order = np.argsort(-scores[0], kind="stable")[:count].tolist()
        results: list[dict[str, Any]] = [{"index": at, "relevance_score": float(scores[0, at])} for at in order]
        if body.get("return_documents", True):
            for each in results:
                each["document"] = {"text": documents[each["index"]]}
        return _answer({"id": call.id, "model": self._name, "usage": _usage(tokens), "results": results})

    async def _scored(self, call: GenerationCall) -> GenerationAnswer:
        one, other = _texts("text_1", call.body.get("text_1")), _texts("text_2", call.body.get("text_2"))
        if len(one) not in (1, len(other)):
            raise InvalidArgument(f"text_1: expected one text, or {len(other)}, as text_2 has, got {len(one)}")
        rows = [other] if len(one) == 1 else [[each] for each in other]
        scores, tokens = await self._scores(call, one, rows)
        data = [{"object": "score", "index": at, "score": float(each)} for at, each in enumerate(scores.reshape(-1))]
        named = {"id": call.id, "object": "list", "created": int(time.time()), "model": self._name}
        return _answer({**named, "data": data, "usage": _usage(tokens)})

    async def _scores(
        self, call: GenerationCall, queries: Sequence[str], passages: Sequence[Sequence[str]]
    ) -> tuple[Array, int]:
        flat = _column([each for row in passages for each in row]).array
        inputs = {QUERY: _column(queries), PASSAGE: Tensor(BYTES, flat.reshape(len(queries), -1))}
        outputs = await self._asked(call, inputs)
        return outputs[SCORE].array, int(outputs[TOKENS].array.sum())


def _texts(key: str, value: object) -> list[str]:
    """A text, or a list of them."""
    if isinstance(value, str):
        return [_text(key, value)]
    if not isinstance(value, list) or not value:
        raise InvalidArgument(f"{key}: expected a text or a list of texts, got {_told(value)}")
    if len(value) > ENCODER_TEXTS_MAX:
        raise InvalidArgument(f"{key}: {len(value)} texts, at most {ENCODER_TEXTS_MAX} are allowed")
    return [_text(f"{key}[{at}]", each) for at, each in enumerate(value)]


def _documents(value: object) -> list[str]:
    if isinstance(value, list):
        value = [each.get("text") if isinstance(each, dict) else each for each in value]
    if isinstance(value, str):
        raise InvalidArgument("documents: expected a list of texts, got a text")
    return _texts("documents", value)


def _text(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(f"{key}: expected a text, got {_told(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"{key}: is no Unicode text: {error.reason}") from error
    return value


def _count(value: object, documents: int) -> int:
    if value is None:
        return documents
    if type(value) is not int or value < 1:
        raise InvalidArgument(f"top_n: expected a whole number of 1 or more, got {_told(value)}")
    return value


def _check_dimensions(value: object, size: int) -> None:
    if value is not None and value != size:
        raise InvalidArgument(f"dimensions: the model's vectors have {size}, got {_told(value)}")


def _told(value: object) -> str:
    names = {type(None): "nothing", list: "a list", dict: "an object", str: "a text"}
    return names.get(type(value)) or quoted(str(value))


def _column(texts: Sequence[str]) -> Tensor:
    array = np.empty(len(texts), object)
    array[:] = [each.encode() for each in texts]
    return Tensor(BYTES, array)


def _written(vector: Array, written: str) -> Array | str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode() if written == "base64" else vector


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": tokens, "total_tokens": tokens}


def _answer(body: Body) -> GenerationAnswer:
    return GenerationAnswer(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY))
