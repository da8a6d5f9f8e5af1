"""A cache of vectors gives what encoding gives, within its bytes, and has each text encoded once however many ask at a time."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from engine import Engine, InvalidArgument, Request, SpecError, parse_spec
from engine.encoders.cache import EncodingCache
from engine.encoders.pooling import Floats
from engine.tensor import Array
from tests.engine.encoders.small import TEXTS, encoder, files, texts_of
from tests.fakes import PATIENCE_S

SEED = random.randrange(1 << 32)


class Lengths:
    """Encodes a text as its length, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.going = threading.Event()
        self.going.set()

    def __call__(self, texts: Sequence[str]) -> tuple[Floats, Array]:
        self.asked += texts
        assert self.going.wait(PATIENCE_S)
        if "bad" in texts:
            raise InvalidArgument("a bad text")
        lengths = np.array([len(each) for each in texts])
        return np.repeat(lengths.astype(np.float32)[:, None], 4, 1), lengths.astype(np.int32)


def test_each_text_is_encoded_once_and_all_are_answered_in_their_order() -> None:
    cache, encode = EncodingCache(1 << 20), Lengths()
    first = cache.encoded(["a", "bb", "a"], encode)
    assert first[0][:, 0].tolist() == first[1].tolist() == [1, 2, 1]
    assert cache.encoded(["ccc", "bb"], encode)[1].tolist() == [3, 2]
    assert encode.asked == ["a", "bb", "ccc"]
    assert (cache.hits, cache.misses, len(cache)) == (2, 3, 3)


def test_the_longest_unused_go_when_there_is_no_room() -> None:
    cache, encode = EncodingCache(3 * (256 + 16 + 1)), Lengths()
    for text in ("a", "b", "c", "a", "d", "a", "b"):
        cache.encoded([text], encode)
    assert encode.asked == ["a", "b", "c", "d", "b"]
    assert len(cache) == 3
    cache.encoded(["x" * 1000], encode)
    assert (len(cache), cache.bytes_size) == (3, 3 * (256 + 16 + 1))


def test_what_another_thread_is_encoding_is_waited_for_and_encoded_here_where_that_fails() -> None:
    cache, encode = EncodingCache(1 << 20), Lengths()
    encode.going.clear()
    told: list[object] = []

    def ask(*texts: str) -> None:
        try:
            told.append(cache.encoded(list(texts), encode)[1].tolist())
        except InvalidArgument as error:
            told.append(error.message)

    failing = threading.Thread(target=ask, args=("bad", "shared"))
    failing.start()
    while len(encode.asked) < 2:
        failing.join(0.001)
    waiting = [threading.Thread(target=ask, args=("shared",)) for _ in range(8)]
    for each in waiting:
        each.start()
    while cache.hits + cache.misses < 2 + len(waiting):
        failing.join(0.001)
    assert encode.asked == ["bad", "shared"]
    encode.going.set()
    for each in (failing, *waiting):
        each.join(PATIENCE_S)
    assert sorted(told, key=str) == [*([[6]] * 8), "a bad text"]
    assert encode.asked == ["bad", "shared", "shared"]


def test_many_threads_get_what_encoding_gives() -> None:
    cache, encode = EncodingCache(8 * 300), Lengths()
    wrong: list[list[str]] = []

    def ask(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(200):
            texts = ["x" * chance.randrange(1, 20) for _ in range(chance.randrange(1, 6))]
            if cache.encoded(texts, encode)[1].tolist() != [len(each) for each in texts]:
                wrong.append(texts)

    threads = [threading.Thread(target=ask, args=(SEED + at,)) for at in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(PATIENCE_S)
    assert not wrong, f"seed {SEED}"
    assert cache.misses == len(encode.asked)
    assert cache.bytes_size <= 8 * 300


SPEC = """
encoders:
  words:
    model: encoder/model.onnx
    tokenizer: encoder/tokenizer.json
    cache_bytes_max: 100000
    encoding: {prompts: {query: "query : "}}
"""


def test_an_encoder_of_the_spec_keeps_queries_and_passages_apart_and_begins_anew_with_another_version(
    tmp_path: Path,
) -> None:
    files(tmp_path / "encoder", encoder())
    plain = Engine(parse_spec(SPEC.replace("cache_bytes_max: 100000", "version: 1"), folder=tmp_path))
    cached = Engine(parse_spec(SPEC, folder=tmp_path))
    for each in (plain, cached):
        each.start()
    assert [(name, version, cache.misses) for name, version, cache in cached.encoding_caches()] == [("words", 1, 0)]
    for _ in range(2):
        for prompt in ("", "query"):
            request = Request("words", {"text": texts_of(TEXTS), "prompt": texts_of([prompt] * len(TEXTS))})
            wanted, found = (each.infer(request).outputs for each in (plain, cached))
            np.testing.assert_array_equal(wanted["embedding"].array, found["embedding"].array)
            np.testing.assert_array_equal(wanted["tokens"].array, found["tokens"].array)
    [(_, _, cache)] = cached.encoding_caches()
    assert (cache.hits, cache.misses) == (2 * len(TEXTS), 2 * len(TEXTS))
    assert plain.encoding_caches() == []
    cached.apply(parse_spec(SPEC + "    version: 2\n", folder=tmp_path))
    assert [(version, len(cache)) for _, version, cache in cached.encoding_caches()] == [(2, 0)]
    for each in (plain, cached):
        each.close(1.0)


def test_room_for_nothing_is_refused_with_its_place() -> None:
    with pytest.raises(SpecError, match=r"app.yaml:6: encoders.words.cache_bytes_max: must be from 1 to"):
        parse_spec(SPEC.replace("100000", "0"), folder=Path(), source="app.yaml")
