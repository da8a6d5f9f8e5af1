"""Providers of language models on real sockets: OpenAI, Azure OpenAI and Anthropic, as their protocols have it, with
their faults.

Each answers "you said: " and the last thing that a user said, or calls the first tool it is offered. What is asked
next is answered by the next of `faults`, where there is one.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import uvicorn

from tests.fakes import PATIENCE_S

Json = dict[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

COUNTS = {
    "prompt_tokens": 12,
    "completion_tokens": 5,
    "total_tokens": 17,
    "prompt_tokens_details": {"cached_tokens": 4},
}
"""What a chat takes, whatever is said."""


@dataclass(frozen=True)
class Refuses:
    """Answers with a status, and the provider's own form of an error."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    message: str = "no"
    type: str = "api_error"
    code: str | None = None


@dataclass(frozen=True)
class Breaks:
    """`at`: before a byte is sent, after some events, after all but the stream's end, or with an error in place of one.

    `waits`: until the caller has left; else the connection is cut. `garbage`: sends what is no JSON.
    """

    at: Literal["start", "middle", "end", "error", "garbage"]
    waits: bool = False


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    path: str
    query: str
    headers: dict[str, str]
    body: Json


@dataclass
class Provider:
    """One server. `left`: requests whose caller closed the connection before the answer's end."""

    kind: Literal["openai", "azure", "anthropic"]
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    faults: deque[Refuses | Breaks] = field(default_factory=deque)
    left: int = 0
    connections: set[object] = field(default_factory=set)

    @property
    def url(self) -> str:
        """What a spec says as `base_url`."""
        return f"http://127.0.0.1:{self.port}" + ("" if self.kind == "azure" else "/v1")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's entry."""
        if scope["type"] != "http":
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.connections.add(tuple(scope["client"]))
        data = b""
        while (message := await receive())["type"] == "http.request":
            data += message.get("body", b"")
            if not message.get("more_body"):
                break
        body = json.loads(data)
        self.asked.append(Asked(scope["path"], scope["query_string"].decode(), headers, body))
        fault = self.faults.popleft() if self.faults else None
        if isinstance(fault, Refuses):
            await _whole(send, self._error(fault), fault.status, fault.headers)
        elif isinstance(fault, Breaks) and fault.at == "start":
            await self._break(fault, receive)
        elif body.get("stream") is True:
            await self._stream(body, fault, receive, send)
        else:
            await _whole(send, self._answer(scope["path"], body), 200, (("x-request-id", "req_1"),))

    async def _break(self, fault: Breaks, receive: Receive) -> None:
        if fault.waits:
            while (await receive())["type"] != "http.disconnect":
                pass
            self.left += 1
        raise ConnectionAbortedError("the provider breaks off")

    async def _stream(self, body: Json, fault: Breaks | None, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-request-id", b"req_2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

        async def put(text: str) -> None:
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})

        events = list(self._events(body))
        told = {"middle": 3, "error": 3, "garbage": 3, "end": len(events) - 1}.get(
            fault.at if fault else "", len(events)
        )
        for each in events[:told]:
            await put(each)
        if fault is not None and fault.at == "garbage":
            await put("data: {not json\n\n")
        if fault is not None and fault.at == "error":
            error = {"type": "overloaded_error", "message": "too busy"}
            await put(f"event: error\ndata: {json.dumps({'type': 'error', 'error': error})}\n\n")
        if fault is not None and fault.at in ("middle", "garbage"):
            await self._break(fault, receive)
        await send({"type": "http.response.body", "body": b""})

    def _error(self, fault: Refuses) -> Json:
        if self.kind == "anthropic":
            return {"type": "error", "error": {"type": fault.type, "message": fault.message}, "request_id": "req_3"}
        return {"error": {"message": fault.message, "type": fault.type, "param": None, "code": fault.code}}

    def _answer(self, path: str, body: Json) -> Json:
        if path.endswith("embeddings"):
            vectors = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
            return {
                "object": "list",
                "data": vectors,
                "model": body["model"],
                "usage": {"prompt_tokens": 3, "total_tokens": 3},
            }
        return self._message(body) if self.kind == "anthropic" else self._completion(body)

    def _completion(self, body: Json) -> Json:
        text, tool = said(body), _tool(body)
        message: Json = {"role": "assistant", "content": None if tool else text, "refusal": None}
        if tool:
            function = {"name": tool, "arguments": '{"city":"Oslo"}'}
            message["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if tool else "stop", "logprobs": None}
        return {
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": f"{body['model']}-0613",
            "choices": [choice], "usage": COUNTS,
        }  # fmt: skip

    def _message(self, body: Json) -> Json:
        tool = _tool(body)
        used = {"type": "tool_use", "id": "toolu_1", "name": tool, "input": {"city": "Oslo"}}
        return {
            "id": "msg_1", "type": "message", "role": "assistant", "model": body["model"],
            "content": [used if tool else {"type": "text", "text": said(body)}],
            "stop_reason": "tool_use" if tool else "end_turn", "stop_sequence": None,
            "usage": {"input_tokens": 8, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 0, "output_tokens": 5},
        }  # fmt: skip

    def _events(self, body: Json) -> Iterator[str]:
        if self.kind == "anthropic":
            for each in _anthropic_events(self._message(body)):
                yield f"event: {each['type']}\ndata: {json.dumps(each)}\n\n"
            return
        shown = (body.get("stream_options") or {}).get("include_usage")
        yield from (
            f"data: {json.dumps(each)}\n\n" for each in _openai_chunks(self._completion(body), usage=bool(shown))
        )
        yield "data: [DONE]\n\n"


async def _whole(send: Send, answer: Json, status: int, headers: tuple[tuple[str, str], ...]) -> None:
    pairs = [(name.encode(), value.encode()) for name, value in (("content-type", "application/json"), *headers)]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


def said(body: Json) -> str:
    """What is answered."""
    content = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
    last = content if isinstance(content, str) else "".join(each.get("text", "") for each in content)
    return f"you said: {last}"


def _tool(body: Json) -> str | None:
    tools = body.get("tools") or []
    first = tools[0] if tools else {}
    name: str | None = first.get("name") or first.get("function", {}).get("name")
    return name


def _openai_chunks(completion: Json, *, usage: bool) -> Iterator[Json]:
    message = completion["choices"][0]["message"]
    base = {name: completion[name] for name in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    deltas: list[Json] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": each} for each in _pieces(message["content"] or "")]
    for call in message.get("tool_calls", []):
        function = call["function"]
        deltas.append({"tool_calls": [{"index": 0, **call, "function": {"name": function["name"], "arguments": ""}}]})
        deltas += [
            {"tool_calls": [{"index": 0, "function": {"arguments": each}}]} for each in _pieces(function["arguments"])
        ]
    for delta in deltas:
        yield base | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield base | {"choices": [{"index": 0, "delta": {}, "finish_reason": completion["choices"][0]["finish_reason"]}]}
    if usage:
        yield base | {"choices": [], "usage": completion["usage"]}


def _anthropic_events(message: Json) -> Iterator[Json]:
    block = message["content"][0]
    tool = block["type"] == "tool_use"
    empty: Json = {"input": {}} if tool else {"text": ""}
    yield {"type": "message_start", "message": message | {"content": [], "stop_reason": None}}
    yield {
        "type": "content_block_start",
        "index": 0,
        "content_block": block | empty,
    }
    yield {"type": "ping"}
    for each in _pieces(json.dumps(block["input"]) if tool else block["text"]):
        delta = {"type": "input_json_delta", "partial_json": each} if tool else {"type": "text_delta", "text": each}
        yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    ending = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": ending, "usage": {"output_tokens": 5}}
    yield {"type": "message_stop"}


def _pieces(text: str) -> Iterator[str]:
    return (text[begin : begin + 3] for begin in range(0, len(text), 3))


@contextmanager
def serving(*providers: Provider) -> Iterator[None]:
    """All of them on one event loop of a thread of their own."""
    sockets = []
    for each in providers:
        made = socket.create_server(("127.0.0.1", 0))
        each.port = made.getsockname()[1]
        sockets.append(made)
    configs = [uvicorn.Config(each, log_level="critical", lifespan="off", http="h11") for each in providers]
    servers = [uvicorn.Server(each) for each in configs]

    async def run() -> None:
        await asyncio.gather(*(server.serve([made]) for server, made in zip(servers, sockets, strict=True)))

    thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
    thread.start()
    try:
        yield
    finally:
        for server in servers:
            server.should_exit = server.force_exit = True
        thread.join(PATIENCE_S)


async def gone(provider: Provider, times: int = 1) -> None:
    """Waits until `provider` has seen so many callers leave."""
    async with asyncio.timeout(PATIENCE_S):
        while provider.left < times:  # noqa: ASYNC110  the provider runs on another loop
            await asyncio.sleep(0.005)
