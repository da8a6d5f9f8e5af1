"""Bad inference bodies: each refused with its status, and a message that names the object, the expected and the actual."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from engine import limits
from tests.serving.over_http.bodies import (
    HEADER_LENGTH,
    LEFT,
    RIGHT,
    SIMPLE,
    as_json,
    asking,
    binary_body,
    check_refused,
    is_right,
    numbers,
    raw_input,
    simple_binary,
    simple_body,
    tensor,
    values_of,
)
from tests.serving.over_http.conftest import client_of
from tests.serving.servers import ServerHere
from tests.serving.test_bad_input import SMALL

HUGE = 1 << 62
FIRST, SECOND = as_json("INPUT0", LEFT), as_json("INPUT1", RIGHT)
Case = tuple[object, int, tuple[str, ...]]


def _first(**other: object) -> dict[str, Any]:
    """A body for `simple` whose first input is other than it should be."""
    return asking({**FIRST, **other}, SECOND)


def _text(value: object, **more: object) -> dict[str, Any]:
    """A body for `simple_identity`."""
    return asking(tensor("INPUT0", "BYTES", (1, 1), [value], **more))


@pytest.fixture(autouse=True)
def _lives(http: httpx.Client) -> Iterator[None]:
    """After each test, the server answers a right request rightly."""
    yield
    assert is_right(http.post(SIMPLE, json=simple_body()))


# What a body says.

MEANING: dict[str, Case] = {
    "wrong datatype": (_first(datatype="FP32"), 400, ("'simple'", "'INPUT0'", "expected", "INT32", "got FP32")),
    "unknown datatype": (_first(datatype="INT23"), 400, ("'INPUT0'", "unknown datatype 'INT23'", "known:", "INT32")),
    "wrong shape": (_first(shape=[2, 8]), 400, ("'simple'", "'INPUT0'", "expected shape [-1, 16]", "got [2, 8]")),
    "wrong rank": (_first(shape=[16]), 400, ("'INPUT0'", "expected shape [-1, 16]", "got [16]")),
    "negative dimension": (_first(shape=[-1, 16]), 400, ("'INPUT0'", "[-1, 16]", "negative")),
    "shape that overflows": (_first(shape=[HUGE, HUGE]), 400, ("'INPUT0'", str(HUGE), "overflows")),
    "shape that overflows beside a zero": (_first(shape=[0, HUGE], data=[]), 400, ("'INPUT0'", "overflows")),
    "dimension beyond 64 bits": (_first(shape=[1 << 70]), 400, ("'INPUT0'", "overflows")),
    "dimension that is no whole number": (_first(shape=[1.5]), 400, ("Expected `int`", "shape")),
    "too many dimensions": (_first(shape=[1] * 33), 400, ("'INPUT0'", "33 dimensions", "at most 32")),
    "data too short": (_first(data=[1, 2]), 400, ("'INPUT0'", "[1, 16] takes 16 elements", "got 2")),
    "data too long": (_first(data=[1] * 17), 400, ("'INPUT0'", "takes 16 elements", "got 17")),
    "data that is no list": (_first(data=5), 400, ("'INPUT0'", "expected a list", "got a int")),
    "data that is null": (_first(data=None), 400, ("'INPUT0'", "expected a list", "NoneType")),
    "neither data nor raw content": (
        asking({each: FIRST[each] for each in ("name", "shape", "datatype")}, SECOND),
        400,
        ("'INPUT0'", "neither data nor binary_data_size"),
    ),
    "ragged data": (_first(data=[[1] * 8, [1] * 7]), 400, ("'INPUT0'", "nested unevenly")),
    "data nested to half": (_first(data=[[1] * 15, 1]), 400, ("'INPUT0'", "nested unevenly")),
    "value that does not fit": (_first(data=[1 << 31] * 16), 400, ("'INPUT0'", "does not fit INT32", "2147483648")),
    "value with a fraction": (_first(data=[0.5] * 16), 400, ("'INPUT0'", "does not fit INT32", "0.5")),
    "integer beyond 64 bits": (_first(data=[1 << 70] * 16), 400, ("'INPUT0'", "does not fit INT32")),
    "text among numbers": (_first(data=[*range(15), "1"]), 400, ("'INPUT0'", "element 15", "a number", "got a str")),
    "null among numbers": (_first(data=[None, *range(15)]), 400, ("'INPUT0'", "element 0", "a number", "got null")),
    "missing input": (asking(FIRST), 400, ("'simple'", "missing input 'INPUT1'")),
    "no input": (asking(), 400, ("missing input 'INPUT0', 'INPUT1'",)),
    "extra input": (asking(FIRST, SECOND, as_json("INPUT2", LEFT)), 400, ("'simple' has no input 'INPUT2'", "nearest")),
    "duplicate input": (asking(FIRST, SECOND, FIRST), 400, ("'INPUT0'", "more than once")),
    "absurdly many inputs": (asking(*[FIRST] * 1025), 400, ("1025 inputs", f"at most {limits.INPUTS_MAX}")),
    "unknown output": (simple_body(outputs=[{"name": "OUTPUT2"}]), 400, ("'simple' has no output 'OUTPUT2'", "nearest")),
    "output asked for twice": (simple_body(outputs=[{"name": "OUTPUT1"}] * 2), 400, ("'OUTPUT1'", "more than once")),
    "zero rows": (
        asking(*({**each, "shape": [0, 16], "data": []} for each in (FIRST, SECOND))),
        400,
        ("'simple'", "zero rows", "at least 1"),
    ),
    "rows that disagree": (
        asking(FIRST, tensor("INPUT1", "INT32", (2, 16), [1] * 32)),
        400,
        ("'simple'", "disagree on the number of rows", "'INPUT0': 1", "'INPUT1': 2"),
    ),
    "more rows than max_batch_size": (
        asking(*(tensor(f"INPUT{index}", "INT32", (9, 16), [1] * 144) for index in range(2))),
        400,
        ("'simple'", "9 rows", "at most 8"),
    ),
    "id too long": (simple_body(id="i" * 4097), 400, ("request id has 4097 characters", "at most 4096")),
    "id that is a number": (simple_body(id=5), 400, ("Expected `str | null`, got `int`", "$.id")),
    "timeout that is text": (simple_body(parameters={"timeout": "soon"}), 400, ("'timeout'", "microseconds", "'soon'")),
    "timeout below zero": (simple_body(parameters={"timeout": -1}), 400, ("'timeout'", "microseconds", "'-1'")),
    "timeout beyond 64 bits": (simple_body(parameters={"timeout": 1 << 64}), 400, ("'timeout'", "microseconds")),
    "parameter that is a list": (simple_body(parameters={"x": [1]}), 400, ("got `array`", "parameters")),
    "flag that is text": (
        simple_body(parameters={"binary_data_output": "yes"}),
        400,
        ("'binary_data_output'", "true or false", "'yes'"),
    ),
    "output's flag that is a number": (
        simple_body(outputs=[{"name": "OUTPUT0", "parameters": {"binary_data": 1}}]),
        400,
        ("output 'OUTPUT0'", "'binary_data'", "true or false", "'1'"),
    ),
    "classification": (
        simple_body(outputs=[{"name": "OUTPUT0", "parameters": {"classification": 2}}]),
        501,
        ("output 'OUTPUT0'", "'classification' is not supported"),
    ),
    "no inputs key": ({}, 400, ("missing required field `inputs`",)),
    "inputs that are no list": ({"inputs": {}}, 400, ("Expected `array`, got `object`", "$.inputs")),
    "body that is a list": ([], 400, ("Expected `object`, got `array`",)),
    "input without a name": ({"inputs": [{"shape": [1], "datatype": "INT8"}]}, 400, ("required field `name`", "inputs")),
}  # fmt: skip


@pytest.mark.parametrize("case", MEANING)
def test_body_that_means_nothing_is_refused_by_name(http: httpx.Client, case: str) -> None:
    body, status, words = MEANING[case]
    check_refused(http.post(SIMPLE, content=json.dumps(body).encode()), status, *words)


LONG = "x" * (limits.STRING_BYTES_MAX + 1)
TEXTS: dict[str, Case] = {
    "string too long": (_text(LONG), 413, ("'INPUT0'", "element 0", str(len(LONG)), str(limits.STRING_BYTES_MAX))),
    "number where a string should be": (_text(5), 400, ("'INPUT0'", "element 0 must be a string", "got int")),
    "null where a string should be": (_text(None), 400, ("'INPUT0'", "element 0 must be a string", "NoneType")),
}


@pytest.mark.parametrize("case", TEXTS)
def test_string_that_is_none_or_too_long_is_refused_by_name(http: httpx.Client, case: str) -> None:
    body, status, words = TEXTS[case]
    check_refused(http.post("/v2/models/simple_identity/infer", json=body), status, *words)


WHOLE = json.dumps(simple_body())
JSON_TEXTS: dict[str, Case] = {
    "nothing": (b"", 400, ("malformed JSON",)),
    "cut short": (WHOLE[:-1].encode(), 400, ("malformed JSON",)),
    "something behind it": (WHOLE.encode() + b"{}", 400, ("malformed JSON",)),
    "single quotes": (b"{'inputs': []}", 400, ("malformed JSON",)),
    "a byte order mark": (b"\xef\xbb\xbf" + WHOLE.encode(), 400, ("malformed JSON",)),
    "UTF-16": (WHOLE.encode("utf-16"), 400, ("malformed JSON",)),
    "invalid UTF-8": (b'{"id": "\xff", "inputs": []}', 400, ("malformed JSON", "'utf-8' codec")),
    "invalid UTF-8 beside a NaN": (b'{"id": "\xff", "x": NaN, "inputs": []}', 400, ("malformed JSON",)),
    "a lone surrogate": (b'{"id": "\\ud800", "inputs": []}', 400, ("malformed JSON",)),
    "a lone surrogate beside a NaN": (b'{"id": "\\ud800", "x": NaN, "inputs": []}', 400, ("malformed JSON",)),
    "lists 250,000 deep": (b'{"x": ' + b"[" * 250_000, 400, ("malformed JSON",)),
    "lists 250,000 deep and closed": (
        b'{"x": ' + b"[" * 250_000 + b"]" * 250_000 + b"}", 400, ("malformed JSON",)
    ),
    "objects 250,000 deep beside a NaN": (b'{"n": NaN, "x": ' + b'{"a":' * 250_000, 400, ("malformed JSON",)),
    "an integer of 400 digits": (
        json.dumps(_first(data=["@"] * 16)).replace('"@"', "1" + "0" * 400).encode(), 400,
        ("'INPUT0'", "does not fit INT32", "beyond 64 bits"),
    ),
    "an integer of 10,000 digits beside a NaN": (
        json.dumps(_first(data=["@"] * 16)).replace('"@"', "1" * 10_000).encode() + b" NaN", 400, ("out of range",)
    ),
    "a dimension of 400 digits": (
        json.dumps(_first(shape=["@"])).replace('"@"', "1" + "0" * 400).encode(), 400, ("'INPUT0'", "overflows")
    ),
    "a number that overflows": (
        json.dumps(_first(data=["@"] * 16)).replace('"@"', "1e999").encode(), 400, ("request body",)
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", JSON_TEXTS)
def test_malformed_json_is_refused(http: httpx.Client, case: str) -> None:
    body, status, words = JSON_TEXTS[case]
    assert isinstance(body, bytes)
    check_refused(http.post(SIMPLE, content=body), status, *words)


def test_data_nested_250000_deep_is_refused(http: httpx.Client) -> None:
    body = json.dumps(_first(data="@")).replace('"@"', "[" * 250_000 + "]" * 250_000)
    check_refused(http.post(SIMPLE, content=body.encode()), 400, "malformed JSON")


def test_data_nested_beyond_every_tensor_is_refused(http: httpx.Client) -> None:
    body = json.dumps(_first(data="@")).replace('"@"', "[" * 100 + "]" * 100)
    check_refused(http.post(SIMPLE, content=body.encode()), 400, "input 'INPUT0'", "nested unevenly or too deep")


def test_parameter_of_256_characters_is_echoed_cut(http: httpx.Client) -> None:
    name = "shared_memory_" + "p" * 242
    body = asking({**FIRST, "parameters": {name: 1}}, SECOND)
    check_refused(http.post(SIMPLE, json=body), 501, "'INPUT0'", "(256 characters)", "not supported")
    assert is_right(http.post(SIMPLE, json=simple_body(parameters={"p" * 256: "v" * 256})))


# Where it goes.

PLACES = {
    "/v2/models/simpel/infer": (404, ("unknown model: 'simpel' is not found", "nearest: 'simple'")),
    "/v2/models/simple/versions/9/infer": (404, ("'simple' has no version 9", "1")),
    "/v2/models/simple/versions/x/infer": (400, ("model version 'x' is not a whole number",)),
    "/v2/models/simple/versions/-1/infer": (400, ("model version '-1' is not a whole number",)),
    f"/v2/models/simple/versions/{'9' * 30}/infer": (400, ("model version", "is not a whole number")),
    f"/v2/models/{'m' * 257}/infer": (400, ("model name 'mmm", "(257 characters)", "at most 256")),
    f"/v2/models/{'m' * 6000}/infer": (400, ("model name 'mmm", "(6000 characters)", "at most 256")),
    f"/{'p' * 6000}": (404, ("nothing is served at '/ppp", "(6001 characters)")),
}


@pytest.mark.parametrize("path", PLACES, ids=range(len(PLACES)))
def test_model_or_version_that_is_not_there_is_named(http: httpx.Client, path: str) -> None:
    status, words = PLACES[path]
    check_refused(http.post(path, json=simple_body()), status, *words)


def test_model_that_streams_is_refused_where_it_gives_more_than_one_response(http: httpx.Client) -> None:
    body = asking(tensor("x", "FP32", (1,), [3]))
    check_refused(http.post("/v2/models/countdown/infer", json=body), 501, "'countdown'", "needs exactly 1")


# Raw content.


def _raw_first(size: object, **more: object) -> dict[str, Any]:
    return asking({**raw_input("INPUT0", "INT32", (1, 16), size), **more}, raw_input("INPUT1", "INT32", (1, 16), 64))


BOTH = LEFT.tobytes(), RIGHT.tobytes()
RAW: dict[str, tuple[tuple[Any, ...], int, tuple[str, ...]]] = {
    "too long": ((_raw_first(80), *BOTH), 400, ("'INPUT0'", "[1, 16] takes 64 bytes", "got 80")),
    "longer than what is left": ((_raw_first(1000), *BOTH), 400, ("'INPUT0'", "is 1000, but 128 bytes are left")),
    "too short": ((_raw_first(60), *BOTH), 400, ("'INPUT0'", "[1, 16] takes 64 bytes", "got 60")),
    "absurd": ((_raw_first(1 << 70), *BOTH), 400, ("'INPUT0'", "binary_data_size")),
    "negative": ((_raw_first(-1), *BOTH), 400, ("'INPUT0'", "a whole number from 0", "'-1'")),
    "text": ((_raw_first("64"), *BOTH), 400, ("'INPUT0'", "binary_data_size must be a whole number", "'64'")),
    "a fraction": ((_raw_first(64.5), *BOTH), 400, ("'INPUT0'", "binary_data_size must be a whole number", "'64.5'")),
    "a truth": ((_raw_first(True), *BOTH), 400, ("'INPUT0'", "binary_data_size must be a whole number", "'True'")),
    "beside data": ((_raw_first(64, data=[1] * 16), *BOTH), 400, ("'INPUT0'", "both data and binary_data_size")),
    "fewer than announced": ((_raw_first(64), BOTH[0]), 400, ("'INPUT1'", "is 64, but 0 bytes are left")),
    "more than announced": ((_raw_first(64), *BOTH, b"xyz"), 400, ("131 bytes follow", "add up to 128")),
    "nobody's": ((simple_body(), b"xyz"), 400, ("3 bytes follow", "add up to 0")),
}


@pytest.mark.parametrize("case", RAW)
def test_raw_length_that_lies_is_refused(http: httpx.Client, case: str) -> None:
    content, status, words = RAW[case]
    sent, length = binary_body(*content)
    check_refused(http.post(SIMPLE, content=sent, headers={HEADER_LENGTH: length}), status, *words)


BINARY, LENGTH = simple_binary()
LENGTHS = {
    "too long": (str(len(BINARY) + 1), (f"is {len(BINARY) + 1}", f"whole body has {len(BINARY)} bytes")),
    "absurd": ("9" * 30, ("expected a whole number", "'999")),
    "negative": ("-5", ("inference-header-content-length", "expected a whole number", "'-5'")),
    "text": ("ten", ("inference-header-content-length", "expected a whole number", "'ten'")),
    "shorter": (str(int(LENGTH) - 1), ("malformed JSON",)),
    "over a part of the content": (str(int(LENGTH) + 4), ("malformed JSON",)),
    "zero, of a model of two inputs": ("0", ("model 'simple' has 2 inputs", "exactly 1")),
}


@pytest.mark.parametrize("case", LENGTHS)
def test_header_length_that_lies_is_refused(http: httpx.Client, case: str) -> None:
    length, words = LENGTHS[case]
    check_refused(http.post(SIMPLE, content=BINARY, headers={HEADER_LENGTH: length}), 400, *words)


def test_raw_content_alone_that_fits_no_shape_is_refused(http: httpx.Client) -> None:
    answer = http.post("/v2/models/double/infer", content=bytes(7), headers={HEADER_LENGTH: "0"})
    check_refused(answer, 400, "input 'x'", "[1, 2] takes 8 bytes", "got 7")


# Content-Encoding.

PACKED = gzip.compress(WHOLE.encode())
ENCODED: dict[str, tuple[str, bytes, int, tuple[str, ...]]] = {
    "broken": ("gzip", PACKED[:40] + b"\0\0\0\0" + PACKED[44:], 400, ("not what its Content-Encoding says",)),
    "plain": ("gzip", WHOLE.encode(), 400, ("not what its Content-Encoding says",)),
    "cut short": ("gzip", PACKED[:-9], 400, ("its compressed data ends too early",)),
    "empty": ("gzip", b"", 400, ("its compressed data ends too early",)),
    "garbage behind it": ("gzip", PACKED + b"garbage", 400, ("not what its Content-Encoding says",)),
    "zeros behind it": ("gzip", PACKED + bytes(8), 400, ("not what its Content-Encoding says",)),
    "too many members": ("gzip", gzip.compress(b"") * 1001, 413, ("more than 1000 compressed members",)),
    "bomb": ("gzip", gzip.compress(bytes(200 << 20), 1), 413, ("more once unpacked", "at most 67108864")),
    "bomb in deflate": ("deflate", zlib.compress(bytes(200 << 20), 1), 413, ("more once unpacked",)),
    "bomb in many members": ("gzip", gzip.compress(bytes(1 << 20), 1) * 70, 413, ("more once unpacked",)),
    "unknown": ("br", PACKED, 415, ("Content-Encoding 'br' is not supported", "known: gzip, deflate")),
    "two": ("gzip, gzip", gzip.compress(PACKED), 415, ("'gzip, gzip' is not supported",)),
}


@pytest.mark.parametrize("case", ENCODED)
def test_packed_body_that_is_wrong_is_refused(http: httpx.Client, case: str) -> None:
    encoding, body, status, words = ENCODED[case]
    answer = http.post(SIMPLE, content=body, headers={"Content-Encoding": encoding})
    check_refused(answer, status, *words)
    assert ("accept-encoding" in answer.headers) is (status == 415)


# Sizes.


@pytest.fixture
def small(start: Callable[[str], ServerHere]) -> Iterator[httpx.Client]:
    """A client of a server that takes 64 KiB at most."""
    with client_of(start(f"server: {{grpc_port: null, http_port: null, message_bytes_max: 65536}}\n{SMALL}")) as made:
        yield made


DOUBLE = "/v2/models/double/infer"
LARGE = json.dumps(numbers(*[0.0] * 100_000)).encode()


class InPieces:
    """A body of no announced length, to be sent any number of times."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        return (self._body[start : start + 10_000] for start in range(0, len(self._body), 10_000))


@pytest.mark.parametrize(
    ("content", "headers", "words"),
    [
        (LARGE, {}, (f"{len(LARGE)} bytes", "at most 65536", "server.message_bytes_max")),
        (InPieces(LARGE), {}, ("bytes so far", "at most 65536")),
        (gzip.compress(LARGE), {"Content-Encoding": "gzip"}, ("more once unpacked", "at most 65536")),
    ],
    ids=["Content-Length", "chunked", "gzip"],
)
def test_body_over_the_limit_is_refused_and_the_server_lives(
    small: httpx.Client, content: bytes | InPieces, headers: dict[str, str], words: tuple[str, ...]
) -> None:
    check_refused(small.post(DOUBLE, content=content, headers=headers), 413, *words)
    assert values_of(small.post(DOUBLE, json=numbers(1.0))) == [2.0]


def test_body_at_the_limit_is_taken(small: httpx.Client) -> None:
    body = json.dumps(numbers(1.0)).encode()
    assert values_of(small.post(DOUBLE, content=body.ljust(65536))) == [2.0]
    check_refused(small.post(DOUBLE, content=body.ljust(65537)), 413, "65537 bytes", "at most 65536")
