"""Tokens of one call, what they cost, and what a call may use at most before anybody has counted. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from engine.generation.upstream.declaration import PriceSpec

BYTES_A_TOKEN: Final = 4
"""Of English text; other languages and code have fewer, so what is estimated by it is put right once the server has
counted."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of the prompt, of the answer, and those of the prompt that came from the provider's cache.

    `estimated`: nobody counted, they are derived from bytes.
    """

    input: int = 0
    output: int = 0
    cached_input: int = 0
    estimated: bool = False

    @property
    def total(self) -> int:
        """Prompt and answer together."""
        return self.input + self.output


def cost(usage: Usage, price: PriceSpec) -> float:
    """What `usage` costs in the price's currency."""
    cached_price = price.input if price.cached_input is None else price.cached_input
    whole = usage.input - usage.cached_input
    return (whole * price.input + usage.cached_input * cached_price + usage.output * price.output) / price.per_tokens


def estimate(sent: int, received: int) -> Usage:
    """Tokens of so many bytes of JSON sent and of text received, each at least one where there are any."""
    return Usage(-(-sent // BYTES_A_TOKEN), -(-received // BYTES_A_TOKEN), estimated=True)


def reserve(prompt: int, body: Mapping[str, object]) -> int:
    """Tokens that a call may use, as far as it says: its prompt of so many bytes and the most it lets be answered, `n`
    times."""
    bounds = (body.get("max_completion_tokens"), body.get("max_tokens"))
    most = next((each for each in bounds if isinstance(each, int) and each > 0), 0)
    times = body.get("n")
    return estimate(prompt, 0).input + most * (times if isinstance(times, int) and times > 1 else 1)


def prompt_bytes(body: Mapping[str, object]) -> int:
    """Bytes of text that a request asks about; images and other data in URLs are not text, and left out."""
    total = 0
    waiting: list[object] = [body]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            total += 0 if value.startswith("data:") else len(value.encode("utf-8", "surrogatepass"))
        elif isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return total


def openai_usage(counted: object) -> Usage | None:
    """The `usage` of an answer in OpenAI's form (of chat, completions, embeddings or responses); None where it has
    none."""
    if not isinstance(counted, Mapping):
        return None
    prompt = _count(counted, "prompt_tokens", "input_tokens")
    answer = _count(counted, "completion_tokens", "output_tokens")
    if prompt is None:
        return None
    details = counted.get("prompt_tokens_details") or counted.get("input_tokens_details")
    cached = _count(details, "cached_tokens") if isinstance(details, Mapping) else None
    return Usage(prompt, answer or 0, min(cached or 0, prompt))


def _count(counted: Mapping[str, object], *names: str) -> int | None:
    found = (counted.get(name) for name in names)
    return next((each for each in found if type(each) is int and 0 <= each < 1 << 53), None)
