"""Header blocks (HPACK, RFC 7541) as a load generator needs them: request blocks built once, response blocks looked up.

Nothing here uses the dynamic table: requests hold only literals without indexing, and we tell the server a table of
size zero, so equal response blocks mean equal headers and a dict answers for them.
"""

from dataclasses import dataclass

from hpack import Decoder
from hpack.exceptions import HPACKError

STATIC_POST = b"\x83"
STATIC_SCHEME_HTTP = b"\x86"
HEADS_MAX = 4096


class HeaderError(Exception):
    """A response header block cannot be read; the connection is of no further use."""


@dataclass(frozen=True, slots=True)
class Head:
    """What we want to know of a header block; None where the block does not say it."""

    http_status: int | None
    grpc_status: int | None


def request_block(*, path: str, authority: str, extra: tuple[tuple[str, str], ...] = ()) -> bytes:
    """The header block of a gRPC call; it can be sent on any stream of any connection."""
    fields = (
        (":path", path),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", "vireo-load"),
        *extra,
    )
    return STATIC_POST + STATIC_SCHEME_HTTP + b"".join(literal(name, value) for name, value in fields)


def literal(name: str, value: str) -> bytes:
    """One "literal header field without indexing, new name", not Huffman coded."""
    return b"\x00" + string(name.encode()) + string(value.encode())


def string(text: bytes) -> bytes:
    """A string literal: its length as an integer with a 7-bit prefix, then its bytes."""
    if len(text) < 127:
        return bytes((len(text),)) + text
    coded, rest = bytearray(b"\x7f"), len(text) - 127
    while rest >= 128:
        coded.append(rest % 128 + 128)
        rest //= 128
    coded.append(rest)
    return bytes(coded) + text


def read_head(block: bytes) -> Head:
    """Decode one response block by itself. Raises HeaderError when it is damaged or leans on a dynamic table."""
    decoder = Decoder()
    decoder.max_allowed_table_size = 0
    decoder.header_table_size = 0
    try:
        fields = {bytes(name): bytes(value) for name, value in decoder.decode(block, raw=True)}
        return Head(_number(fields.get(b":status")), _number(fields.get(b"grpc-status")))
    except (HPACKError, ValueError) as error:
        raise HeaderError(f"a response header block of {len(block)} bytes: {error}") from error


def _number(value: bytes | None) -> int | None:
    return None if value is None else int(value)


class HeadCache:
    """Response blocks already read; at most HEADS_MAX of them, after which it starts anew. Not for several threads."""

    def __init__(self) -> None:
        self.heads: dict[bytes, Head] = {}

    def read(self, block: bytes) -> Head:
        """The head of `block`, decoded at its first sight."""
        head = self.heads.get(block)
        if head is None:
            if len(self.heads) >= HEADS_MAX:
                self.heads.clear()
            head = self.heads[block] = read_head(block)
        return head
