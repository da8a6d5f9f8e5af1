"""How an answer is to be worded, as calls say it: checked for those who answer with one text of their own making. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from engine.errors import InvalidArgument, quoted

_OWN: Final = frozenset(("model", "messages", "prompt", "stream", "stream_options", "n"))
_REFUSED: Final = {
    "tools": "it calls no tools",
    "functions": "it calls no functions",
    "logprobs": "its text is not a model's alone",
    "top_logprobs": "its text is not a model's alone",
    "echo": "it gives its own text alone",
    "suffix": "it puts nothing before a text",
}
_NUMBERS: Final = {
    "temperature": (0.0, math.inf),
    "top_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
}
_COUNTS: Final = ("max_tokens", "max_completion_tokens")


def check_sampling(body: Mapping[str, Any]) -> None:
    """Raises InvalidArgument, naming the key, for a value that means nothing, and for what one text cannot be."""
    for key, why in _REFUSED.items():
        if body.get(key):
            raise InvalidArgument(f"{key}: {why}")
    for key in ("n", "best_of"):
        if body.get(key) not in (None, 1):
            raise InvalidArgument(f"{key}: one answer is given, got {quoted(str(body[key]))}")
    form = body.get("response_format")
    if form is not None and (not isinstance(form, Mapping) or form.get("type") != "text"):
        raise InvalidArgument("response_format: the answer is a text, so its type can only be 'text'")
    for key, (least, most) in _NUMBERS.items():
        value = body.get(key)
        if value is not None and (type(value) not in (int, float) or not least <= value <= most):
            bound = f"of {least:g} or more" if most == math.inf else f"from {least:g} to {most:g}"
            raise InvalidArgument(f"{key}: expected a number {bound}, got {quoted(str(value))}")
    for key in _COUNTS:
        value = body.get(key)
        if value is not None and (type(value) is not int or value < 1):
            raise InvalidArgument(f"{key}: expected a whole number of 1 or more, got {quoted(str(value))}")
    _check_rest(body)


def _check_rest(body: Mapping[str, Any]) -> None:
    stop, options, seed = body.get("stop"), body.get("stream_options"), body.get("seed")
    if seed is not None and type(seed) is not int:
        raise InvalidArgument(f"seed: expected a whole number, got {quoted(str(seed))}")
    texts = stop if isinstance(stop, list) else [stop]
    if stop is not None and not all(isinstance(each, str) for each in texts):
        raise InvalidArgument(f"stop: expected a text or a list of texts, got {quoted(str(stop))}")
    if options is not None and not isinstance(options, Mapping):
        raise InvalidArgument(f"stream_options: expected an object, got {quoted(str(options))}")


def sampling_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """What of the body a model gets as it is that words the answer. Raises InvalidArgument as `check_sampling` does."""
    check_sampling(body)
    return {key: value for key, value in body.items() if key not in _OWN and key not in _REFUSED}
