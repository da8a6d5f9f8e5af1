"""A text encoder as a servable: texts in, vectors out, as Sentence-BERT has it (Reimers and Gurevych, EMNLP 2019).

Inputs: "text" BYTES [-1], UTF-8; where the encoder has prompts "prompt" BYTES [-1], optional, the name of the prompt that is put
before each text, empty for none. Outputs: "embedding" FP32 [-1, d];
"tokens" INT32 [-1], how many each text took, its prompt and special tokens among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.encoders.cache import EncodingCache
from engine.encoders.declaration import EncoderSpec, EncodingSpec
from engine.encoders.pooling import Floats, normalised, pooled
from engine.encoders.relations import EMBEDDING, PROMPT, TEXT, TOKENS, tensors_of_encoder
from engine.encoders.tokens import Tokens
from engine.errors import InvalidArgument, ModelLoadError, nearest, quoted
from engine.servables.servable import Tensors, Traits
from engine.servables.signature import Signature, declared_specs
from engine.servables.token_model import TokenModel, Values, batching_told, load_token_model, text_of
from engine.tensor import FP32, INT32, Array, Tensor


class TextEncoder:
    """See the module. Any number of threads."""

    def __init__(self, model: TokenModel, encoding: EncodingSpec, size: int, cache: EncodingCache | None) -> None:
        self._model, self._encoding, self.cache = model, encoding, cache
        self._prompts = {"": "", **encoding.prompts}
        self._samples = frozenset(self._prompts[encoding.default_prompt or ""] + each for each in model.samples())
        inputs, outputs = tensors_of_encoder(encoding, size)
        self.signature = Signature(declared_specs(inputs), declared_specs(outputs), batchable=True)
        told = f"pooling {encoding.pooling}, normalised: {encoding.normalise}, tokens_max {encoding.tokens_max}"
        self.traits = Traits("vireo_encoder", batching_told(model), (told,))

    def execute(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """See `Servable.execute`. Raises InvalidArgument for text that is no UTF-8 or too long, and for an unknown prompt."""
        texts = [text_of(TEXT, each) for each in inputs[TEXT].array]
        prompts = self._prompts_of(inputs, len(texts))
        vectors, tokens = self._encoded([f"{prompt}{text}" for prompt, text in zip(prompts, texts, strict=True)])
        found = {EMBEDDING: Tensor(FP32, vectors), TOKENS: Tensor(INT32, tokens)}
        return {name: found[name] for name in outputs} if outputs else found

    def _encoded(self, texts: Sequence[str]) -> tuple[Floats, Array]:
        if self.cache is None or self._samples.issuperset(texts):  # a warm-up is to take the time that encoding takes
            return encoded(self._model, texts, self._encoding)
        return self.cache.encoded(texts, lambda missing: encoded(self._model, missing, self._encoding))

    def _prompts_of(self, inputs: Tensors, rows: int) -> list[str]:
        if PROMPT not in inputs:
            return [self._prompts[self._encoding.default_prompt or ""]] * rows
        return [self._prompt(each) for each in inputs[PROMPT].array]

    def _prompt(self, value: bytes) -> str:
        name = text_of(PROMPT, value)
        found = self._prompts.get(name)
        if found is None:
            raise InvalidArgument(
                f"input {quoted(PROMPT)}: there is no prompt {quoted(name)}{nearest(name, self._prompts)}"
            )
        return found

    def samples(self, rows: int) -> dict[str, Tensor]:
        """See `SampledServable`."""
        return {TEXT: Tensor.from_texts(self._model.sample_rows(rows))}

    def close(self) -> None:
        """Drops the model."""
        self._model.close()


def encoded(model: TokenModel, texts: Sequence[str], encoding: EncodingSpec) -> tuple[Floats, Array]:
    """float32 [n, d], and int32 [n]: the tokens of each."""
    found: Floats | None = None
    tokens = np.empty(len(texts), np.int32)
    for places, values, mask in model.run(texts):
        vectors = values if encoding.pooling == "none" else pooled(values, mask, encoding.pooling)
        if found is None:
            found = np.empty((len(texts), vectors.shape[1]), np.float32)
        found[places] = normalised(vectors) if encoding.normalise else vectors
        tokens[places] = mask.sum(1)
    assert found is not None, "a request has a row"
    return found, tokens


def load_text_encoder(spec: EncoderSpec) -> TextEncoder:
    """Loaded. Paths of `spec` are absolute. Raises ModelLoadError, naming the file and the reason."""
    encoding = spec.encoding
    tokens = Tokens(Path(spec.tokenizer), encoding.tokens_max, truncate=encoding.truncate)

    def values(model: TokenModel) -> Values:
        _, sample, _ = next(model.run(model.samples()[:1]))
        wanted = 2 if encoding.pooling == "none" else 3
        if sample.ndim != wanted or sample.dtype != np.float32:
            raise ModelLoadError(
                f"{spec.model}: with pooling {quoted(encoding.pooling)} output {quoted(model.output)} must be FP32 of {wanted} "
                f"dimensions, got {sample.dtype} {list(sample.shape)}"
            )
        return lambda texts: encoded(model, texts, encoding)[0]

    model = load_token_model(spec, tokens, values)
    size = encoded(model, model.samples()[:1], encoding)[0].shape[1]
    cache = None if spec.cache_bytes_max is None else EncodingCache(spec.cache_bytes_max)
    return TextEncoder(model, encoding, size, cache)
