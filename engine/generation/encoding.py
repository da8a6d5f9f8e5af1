"""Encoders and rerankers of the spec, and graphs of their kind, as language models: embeddings as the OpenAI API has them,
reranking and scores as vLLM has.

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

from engine.encoders.relations import PROMPT, TOKENS
from engine.errors import Internal, InvalidArgument, quoted
from engine.generation.asking import AskingModel, Submit, asked, request_of
from engine.generation.call import GenerationAnswer, GenerationCall, GenerationKind, Served
from engine.generation.graph.declaration import EmbeddingTensors, RerankingTensors
from engine.limits import ENCODER_TEXTS_MAX
from engine.servables.servable import Tensors
from engine.tensor import Array, Tensor

Body = Mapping[str, Any]

ENCODER: Final = EmbeddingTensors(tokens=TOKENS, prompt=PROMPT)
RERANKER: Final = RerankingTensors(tokens=TOKENS)
"""Of encoders and rerankers of the spec."""

_FORMATS: Final = ("float", "base64")


class _Encoding(AskingModel):
    """What both have. `servable`: what it asks."""

    def __init__(self, name: str, servable: str, submit: Submit) -> None:
        super().__init__(name)
        self._servable, self._submit = servable, submit

    async def _served(self, call: GenerationCall, inputs: Tensors, *outputs: str | None) -> tuple[Served, Tensors]:
        """What was asked, and the outputs; None names none."""
        request = request_of(call, self._servable, inputs, tuple(each for each in outputs if each is not None))
        response = await asked(self._submit, request)
        return Served(request, response), response.outputs

    def _of_shape(self, outputs: Tensors, name: str, wanted: tuple[int | None, ...]) -> Array:
        """An output as float32. Raises Internal where it is of another shape."""
        array = outputs[name].array
        if array.ndim != len(wanted) or any(
            size not in (None, has) for size, has in zip(wanted, array.shape, strict=True)
        ):
            told = ", ".join("any" if size is None else str(size) for size in wanted)
            raise Internal(
                f"model {quoted(self._servable)}: output {quoted(name)} must be [{told}], got {list(array.shape)}"
            )
        return array.astype(np.float32, copy=False)


class EmbeddingModel(_Encoding):
    """An encoder, or what has its `tensors` by other names. See the module."""

    kinds = frozenset((GenerationKind.EMBEDDING,))

    def __init__(self, name: str, servable: str, tensors: EmbeddingTensors, submit: Submit) -> None:
        super().__init__(name, servable, submit)
        self._tensors = tensors

    async def answer(self, call: GenerationCall) -> GenerationAnswer:
        """See `LanguageModel`."""
        body, tensors = call.body, self._tensors
        texts = _inputs(body.get("input"))
        written = body.get("encoding_format") or "float"
        if written not in _FORMATS:
            raise InvalidArgument(f"encoding_format: expected {' or '.join(_FORMATS)}, got {quoted(str(written))}")
        inputs = {tensors.text: Tensor.from_texts(texts)}
        if (kind := body.get("input_type")) is not None:
            inputs |= self._prompts(_text("input_type", kind), len(texts))
        served, outputs = await self._served(call, inputs, tensors.embedding, tensors.tokens)
        vectors = self._of_shape(outputs, tensors.embedding, (len(texts), None))
        _check_dimensions(body.get("dimensions"), vectors.shape[1])
        data = [
            {"object": "embedding", "index": at, "embedding": _written(vector, written)}
            for at, vector in enumerate(vectors)
        ]
        usage = _usage(outputs, tensors.tokens)
        return _answer(served, {"object": "list", "data": data, "model": self._name, **usage})

    def _prompts(self, kind: str, rows: int) -> dict[str, Tensor]:
        if self._tensors.prompt is None:
            raise InvalidArgument(f"input_type: model {quoted(self._name)} embeds all texts alike, got {quoted(kind)}")
        return {self._tensors.prompt: Tensor.from_texts([kind] * rows)}


class RerankingModel(_Encoding):
    """A reranker, or what has its `tensors` by other names. See the module."""

    kinds = frozenset((GenerationKind.RERANK, GenerationKind.SCORE))

    def __init__(self, name: str, servable: str, tensors: RerankingTensors, submit: Submit) -> None:
        super().__init__(name, servable, submit)
        self._tensors = tensors

    async def answer(self, call: GenerationCall) -> GenerationAnswer:
        """See `LanguageModel`."""
        return await (self._reranked(call) if call.kind is GenerationKind.RERANK else self._scored(call))

    async def _reranked(self, call: GenerationCall) -> GenerationAnswer:
        body = call.body
        query = _text("query", body.get("query"))
        documents = _documents(body.get("documents"))
        count = _count(body.get("top_n"), len(documents))
        served, scores, usage = await self._scores(call, [query], [documents])
        order = np.argsort(-scores[0], kind="stable")[:count].tolist()
        results: list[dict[str, Any]] = [{"index": at, "relevance_score": float(scores[0, at])} for at in order]
        if body.get("return_documents", True):
            for each in results:
                each["document"] = {"text": documents[each["index"]]}
        return _answer(served, {"id": call.id, "model": self._name, **usage, "results": results})

    async def _scored(self, call: GenerationCall) -> GenerationAnswer:
        one, other = _texts("text_1", call.body.get("text_1")), _texts("text_2", call.body.get("text_2"))
        if len(one) not in (1, len(other)):
            raise InvalidArgument(f"text_1: expected one text, or {len(other)}, as text_2 has, got {len(one)}")
        rows = [other] if len(one) == 1 else [[each] for each in other]
        served, scores, usage = await self._scores(call, one, rows)
        data = [{"object": "score", "index": at, "score": float(each)} for at, each in enumerate(scores.reshape(-1))]
        named = {"id": call.id, "object": "list", "created": int(time.time()), "model": self._name}
        return _answer(served, {**named, "data": data, **usage})

    async def _scores(
        self, call: GenerationCall, queries: Sequence[str], passages: Sequence[Sequence[str]]
    ) -> tuple[Served, Array, Body]:
        tensors, shape = self._tensors, (len(queries), len(passages[0]))
        flat = [each for row in passages for each in row]
        inputs = {tensors.query: Tensor.from_texts(queries), tensors.passage: Tensor.from_texts(flat, shape)}
        served, outputs = await self._served(call, inputs, tensors.score, tensors.tokens)
        return served, self._of_shape(outputs, tensors.score, shape), _usage(outputs, tensors.tokens)


def _inputs(value: object) -> list[str]:
    """The texts to embed."""
    if isinstance(value, list) and value and isinstance(value[0], int | list):
        raise InvalidArgument(
            "input: expected a text or a list of texts, got tokens: of which tokenizer nobody can tell "
            "(LangChain's OpenAIEmbeddings sends texts with check_embedding_ctx_length=False)"
        )
    return _texts("input", value)


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


def _written(vector: Array, written: str) -> Array | str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode() if written == "base64" else vector


def _usage(outputs: Tensors, name: str | None) -> Body:
    """The key `usage` of an answer, where tokens are counted."""
    if name is None:
        return {}
    tokens = int(outputs[name].array.sum())
    return {"usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


def _answer(served: Served, body: Body) -> GenerationAnswer:
    return GenerationAnswer(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), served=served)
