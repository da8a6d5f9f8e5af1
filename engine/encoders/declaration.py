"""How encoders and rerankers are declared in the spec. Frozen values; docs/reference/encoders.md says what each key means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

from engine.execution.declaration import CPU, Providers
from engine.limits import BATCH_ROWS_MAX, ENCODER_BATCH_TOKENS_MAX, ENCODER_TOKENS_MAX

Pooling = Literal["mean", "cls", "last", "none"]


@dataclass(frozen=True, slots=True)
class EncodingSpec:
    """How a text becomes a vector, beside the weights: vectors are comparable where all of it is the same, and a collection
    records it with the vector that names the encoder as its embedder.

    `pooling`: one vector of those of the tokens: their mean, that of the first, that of the last; `none` where the model gives
    one itself. `prompts`: what is put before a text, by name, such as `query: ` or an instruction; `default_prompt` names the one
    of a request that names none. A text of more than `tokens_max` is cut there, or with `truncate: false` refused.
    """

    pooling: Pooling = "mean"
    normalise: bool = True
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    tokens_max: int = ENCODER_TOKENS_MAX
    truncate: bool = True

    def told_unlike(self, other: EncodingSpec) -> str:
        """Each key in which this differs from `other`, in words; empty where it is the same."""
        pairs = ((each.name, getattr(self, each.name), getattr(other, each.name)) for each in fields(self))
        return "; ".join(f"{key} is {_told(mine)}, not {_told(its)}" for key, mine, its in pairs if mine != its)


def _told(value: object) -> str:
    return str(dict(value)) if isinstance(value, Mapping) else str(value)


@dataclass(frozen=True, slots=True)
class TokenBatchingSpec:
    """Texts that wait while a worker is busy run together, sorted by length, so that a run has at most `tokens_max` tokens,
    padding among them. `rows_max`: texts that are taken at once."""

    enabled: bool = True
    rows_max: int = BATCH_ROWS_MAX
    tokens_max: int = ENCODER_BATCH_TOKENS_MAX


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """A text encoder, served as a model of `version`. `model` is an ONNX file, `tokenizer` a `tokenizer.json`. `output`: that of
    the model to read, null for its first. `cache_bytes_max`: of the vectors of texts encoded before that are kept, null for none.
    """

    model: str
    tokenizer: str
    version: int = 1
    encoding: EncodingSpec = field(default_factory=EncodingSpec)
    output: str | None = None
    batching: TokenBatchingSpec = field(default_factory=TokenBatchingSpec)
    instances: int | None = None
    threads: int = 1
    providers: Providers = CPU
    timeout_ms: float | None = None
    cache_bytes_max: int | None = None


@dataclass(frozen=True, slots=True)
class RerankerSpec:
    """A cross-encoder (Nogueira and Cho, "Passage Re-ranking with BERT", 2019), served as a model of `version`: it reads a query
    and a passage together and says how well one answers the other.

    `activation`: of the model's one logit. `query_prefix` and `passage_prefix` are put before each. A pair of more than
    `tokens_max` is cut where it is longer, or with `truncate: false` refused.
    """

    model: str
    tokenizer: str
    version: int = 1
    activation: Literal["none", "sigmoid"] = "none"
    query_prefix: str = ""
    passage_prefix: str = ""
    tokens_max: int = ENCODER_TOKENS_MAX
    truncate: bool = True
    output: str | None = None
    batching: TokenBatchingSpec = field(default_factory=TokenBatchingSpec)
    instances: int | None = None
    threads: int = 1
    providers: Providers = CPU
    timeout_ms: float | None = None
