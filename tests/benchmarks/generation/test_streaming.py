"""What the caller of streamed answers makes of the bytes that came, however they were cut."""

import asyncio
import json

import pytest

from benchmarks.generation.streaming import StreamError, connected, read, request_of
from tests.fakes import PATIENCE_S

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def event(told: dict[str, object]) -> bytes:
    data = b"data: " + json.dumps(told).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(data), data)


def said(text: str) -> bytes:
    return event({"choices": [{"delta": {"content": text}}]})


ROLE, USAGE = said(""), event({"choices": [], "usage": {"completion_tokens": 3}})
END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


def test_first_text_and_tokens_are_stamped_when_they_came_and_the_role_is_no_text() -> None:
    pieces = [(5, HEAD + ROLE), (2_000_000, said("Hel")), (3_000_000, said("lo") + said("!")), (9, USAGE + END)]
    streamed = read(1_000_000, pieces)
    assert (streamed.text, streamed.tokens) == ("Hello!", 3)
    assert streamed.token_ns == [2_000_000, 3_000_000, 3_000_000]
    assert (streamed.first_ms, streamed.between_ms) == (1.0, 0.5)


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_bytes_cut_anywhere_tell_the_same(size: int) -> None:
    whole = HEAD + ROLE + said("Hel") + said("lo") + USAGE + END
    pieces = [(at, whole[at : at + size]) for at in range(0, len(whole), size)]
    assert read(0, pieces).text == "Hello"


def test_an_answer_that_is_an_error_or_breaks_off_is_no_stream() -> None:
    refused = b'HTTP/1.1 400 Bad Request\r\ncontent-length: 17\r\n\r\n{"error": "wrong"}'
    with pytest.raises(StreamError, match="wrong"):
        read(0, [(1, refused[:-1])])
    with pytest.raises(StreamError, match="Hel"):
        read(0, [(1, HEAD + said("Hel"))])


def test_a_call_after_the_server_hung_up_is_told_and_not_waited_for() -> None:
    async def answers_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + END)
        writer.close()

    async def called() -> None:
        server = await asyncio.start_server(answers_once, "127.0.0.1", 0)
        async with server:
            connection = await connected(server.sockets[0].getsockname()[1])
            while True:  # the end may come during the second call
                await asyncio.wait_for(connection.call(request_of("/v1/x", {})), PATIENCE_S)

    with pytest.raises(StreamError, match="the server closed the connection"):
        asyncio.run(called())


def test_a_request_announces_the_length_of_its_body() -> None:
    head, _, body = request_of("/v1/x", {"a": "ä"}).partition(b"\r\n\r\n")
    assert json.loads(body) == {"a": "ä"}
    assert b"content-length: %d" % len(body) in head
    assert head.startswith(b"POST /v1/x HTTP/1.1\r\n")
