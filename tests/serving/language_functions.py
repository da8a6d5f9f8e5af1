"""Python functions behind the graphs that tests call as language models."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping

import numpy as np

from engine import Array
from tests.fakes import PATIENCE_S

GOING = threading.Event()
"""Lets a question that begins with "slow" go on."""

LEFT: list[str] = []
"""Questions whose answers nobody read to the end."""


def _texts(*texts: str) -> Array:
    return np.array([each.encode() for each in texts], object)


def answered(messages: Array, body: Array, tenant: Array) -> Mapping[str, Array]:
    """Says who asked how many messages at which temperature, and counts words; fails where asked to."""
    said = json.loads(messages[0]) or [{"content": "warm"}]  # the warm-up gives a zero
    last = said[-1]["content"]
    if last == "fail":
        raise ValueError("it was to fail")
    if last.startswith("slow"):
        GOING.wait(PATIENCE_S)
    asked = (json.loads(body[0]) or {}).get("temperature")
    text = f"{tenant[0].decode()}: {len(said)} at {asked}: {last}"
    counts = (np.array([len(each.split())], np.int64) for each in (last, text))
    return {"text": _texts(text), "reason": _texts("length"), **dict(zip(("asked", "said"), counts, strict=True))}


def spelled(question: Array) -> Iterator[Mapping[str, Array]]:
    """The question again, word by word; without end where it begins with "endless"."""
    words = question[0].decode().split()
    try:
        while True:
            for word in words:
                yield {"answer": _texts(f"{word} ")}
            if words[:1] != ["endless"]:
                return
    except GeneratorExit:
        LEFT.append(question[0].decode())
        raise


def lengths(texts: Array) -> Mapping[str, Array]:
    """Of each text: its characters, and its words."""
    rows = [each.decode() for each in texts]
    return {"vectors": np.array([[len(each), len(each.split())] for each in rows], np.float32)}


def overlap(one: Array, others: Array) -> Mapping[str, Array]:
    """Of each pair: the words that both have."""
    words = [set(each.split()) for each in one]
    shared = [[len(words[row] & set(each.split())) for each in others[row]] for row in range(len(one))]
    return {"shared": np.array(shared, np.float32).reshape(others.shape)}
