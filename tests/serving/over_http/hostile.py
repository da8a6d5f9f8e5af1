"""What a hostile client may send, as hypothesis strategies: right requests broken somewhere, and bytes that never were one."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from tests.serving.over_http.bodies import HEADER_LENGTH, SIMPLE, simple_binary, simple_body
from tests.serving.over_http.wire import chunked

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Sent:
    """One request. `size` is the Content-Length it claims, None for none."""

    method: str
    target: str
    headers: Headers = ()
    body: bytes = b""
    size: int | None = None

    def to_bytes(self) -> bytes:
        """As it travels."""
        headers = (
            ("Host", "h"),
            *self.headers,
            *((("Content-Length", str(self.size)),) if self.size is not None else ()),
        )
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        return f"{self.method} {self.target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + self.body


def _posted(target: str, body: bytes, *headers: tuple[str, str]) -> Sent:
    return Sent("POST", target, headers, body, len(body))


_BINARY, _HEADER_BYTES = simple_binary()
RIGHT = (
    _posted(SIMPLE, json.dumps(simple_body()).encode()),
    _posted(SIMPLE, json.dumps(simple_body(id="x", outputs=[{"name": "OUTPUT0"}])).encode()),
    _posted(SIMPLE, _BINARY, (HEADER_LENGTH, _HEADER_BYTES)),
    _posted("/v2/models/double/infer", bytes(8), (HEADER_LENGTH, "0")),
    _posted("/v2/repository/index", b'{"ready": true}'),
    _posted("/v2/repository/models/none/load", b'{"parameters": {"config": "{}"}}'),
    *(
        Sent("GET", each)
        for each in ("/v2", "/v2/models/simple/versions/1/config", "/metrics", "/openapi.json", "/docs")
    ),
)

_ODD_NUMBERS = st.sampled_from([0, 1, -1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**40, 1e308, 0.5, 64])
_ODD_TEXTS = st.sampled_from(
    ["", "0", "INT32", "BYTES", "BF16", "INPUT0", "\0", "\ud800", "é" * 300, "../..", "x" * 5000]
)
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | _ODD_NUMBERS | _ODD_TEXTS | st.sampled_from([float("nan"), float("inf")]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_ODD_TEXTS, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def _broken_tree(draw: st.DrawFn, tree: Any) -> Any:  # noqa: ANN401
    """`tree` with one node of it replaced, left out, doubled, or joined by another."""
    if isinstance(tree, dict) and tree and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(sorted(tree)))
        return {**tree, key: draw(_broken_tree(tree[key]))}
    if isinstance(tree, list) and tree and draw(st.integers(0, 9)):
        at = draw(st.integers(0, len(tree) - 1))
        middle = draw(st.sampled_from([[], [tree[at]] * 2]) | _broken_tree(tree[at]).map(lambda each: [each]))
        return [*tree[:at], *middle, *tree[at + 1 :]]
    return draw(_VALUES)


@st.composite
def _broken_json(draw: st.DrawFn, body: bytes) -> bytes:
    at = draw(st.integers(0, 20))
    broken = json.dumps(draw(_broken_tree(json.loads(body)))).encode()
    return broken if at else broken + draw(st.binary(max_size=5))


@st.composite
def broken_bytes(draw: st.DrawFn, right: bytes) -> bytes:
    """`right` with some bytes of it replaced, left out, doubled, or joined by others."""
    found = bytearray(right)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(found)))
        end = min(len(found), start + draw(st.integers(0, 20)))
        found[start:end] = draw(st.binary(max_size=8) | st.just(bytes(found[start:end]) * 2))
    return bytes(found)


_LENGTHS = st.sampled_from(
    ["", "-1", "0", "1", "10", "999", "99999999999999999999", "1e3", "0x10", "ten", " 5", "5, 5", "²"]
)
_HEADERS = st.one_of(
    st.tuples(st.just(HEADER_LENGTH), _LENGTHS),
    st.tuples(st.just("X-Request-Timeout-Ms"), _LENGTHS),
    st.tuples(
        st.just("Content-Encoding"), st.sampled_from(["gzip", "deflate", "br", "identity", "", "gzip, gzip", "\xff"])
    ),
    st.tuples(
        st.just("Accept-Encoding"), st.sampled_from(["gzip;q=x", "*", ";;;,,,", "gzip;q=1e999", "deflate", "\xe9"])
    ),
    st.tuples(
        st.just("Accept"), st.sampled_from(["application/openmetrics-text; version=x", "*/*;q=", "\xff", "text/plain"])
    ),
    st.tuples(st.just("Expect"), st.sampled_from(["100-continue", "200-ok"])),
    st.tuples(st.just("Authorization"), st.sampled_from(["Bearer x", "Basic", "\xff" * 50])),
    st.tuples(
        st.from_regex(r"[A-Za-z-]{1,40}", fullmatch=True).map("X-{}".format), st.text("aé ,;=\x80\t", max_size=50)
    ),
)
_PATH_PARTS = st.sampled_from(
    ["v2", "models", "simple", "none", "versions", "1", "2", "x", "infer", "ready", "%00", "%ff%fe", "%", "..", ".", "",
     "a" * 300, "%2f", "?a=b", "{model}", "\xe9", "health", "metrics", "9" * 40, "logging"]
)  # fmt: skip
_PATHS = st.lists(_PATH_PARTS, max_size=7).map(lambda parts: "/" + "/".join(parts))
_METHODS = st.sampled_from(["GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])


@st.composite
def framed(draw: st.DrawFn) -> Sent:
    """A request that begins and ends where it says, so that exactly one answer is due, but is wrong within."""
    right = draw(st.sampled_from(RIGHT))
    choice = draw(st.integers(0, 6))
    if choice == 0:
        return replace(right, target=draw(_PATHS))
    if choice == 1:
        return replace(right, method=draw(_METHODS))
    if choice == 2 or not right.body:
        return replace(right, headers=right.headers + tuple(draw(st.lists(_HEADERS, min_size=1, max_size=3))))
    whole = right.body.startswith(b"{") and not right.headers
    body = draw(_broken_json(right.body) if whole and choice > 3 else broken_bytes(right.body))
    return replace(right, body=body, size=len(body))


@st.composite
def unframed(draw: st.DrawFn) -> bytes:
    """Bytes after which nothing is sure: a length that lies, a chunk that lies, a broken head, or noise."""
    right = draw(st.sampled_from(RIGHT))
    choice = draw(st.integers(0, 3))
    if choice == 0:
        return replace(right, size=draw(st.integers(0, 2 * len(right.body) + 9))).to_bytes()
    if choice == 1:
        headers = (*right.headers, ("Transfer-Encoding", draw(st.sampled_from(["chunked", "gzip, chunked", "x", ""]))))
        cut = draw(st.integers(0, len(right.body)))
        body = draw(broken_bytes(chunked(right.body[:cut], right.body[cut:])))
        return replace(right, headers=headers, body=body, size=None).to_bytes()
    return draw(broken_bytes(right.to_bytes()) if choice == 2 else st.binary(max_size=300))
