"""One `ModelStreamInfer` stream: requests come in, answers go out. It knows no transport."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator

from tritonclient.grpc import service_pb2 as pb

from engine import Internal, Request, Response, VireoError, limits
from serving.account import Account, Accounts, Pairs, accounted
from serving.asked import asked_by
from serving.codec import decode_request, encode_response, parse
from serving.dispatch import Dispatch
from serving.methods import Call
from serving.status import retry_after_ms, told

log = logging.getLogger("vireo.serving")


class InferStream:
    """One bidirectional stream: requests are computed side by side, answered in the order they came.

    A model that gives many responses sends each as it comes, and holds no other request back. An error answers its own
    request; the stream goes on.
    """

    def __init__(self, dispatch: Dispatch, call: Call, accounts: Accounts) -> None:
        self._dispatch = dispatch
        self._accounts = accounts
        self._asked = asked_by(call.metadata())
        self._deadline = call.deadline
        self._answers: asyncio.Queue[bytes | None] = asyncio.Queue(limits.STREAM_PARTS_MAX)
        self._room = asyncio.Semaphore(limits.STREAM_REQUESTS_MAX)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, messages: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """The answers to `messages`, each a ModelStreamInferResponse."""
        reader = asyncio.create_task(self._read(messages))
        try:
            while (answer := await self._answers.get()) is not None:
                yield answer
            await reader
        finally:
            for task in (reader, *self._tasks):
                task.cancel()

    async def _read(self, messages: AsyncIterator[bytes]) -> None:
        last: asyncio.Task[None] | None = None  # of those that answer in the order they came
        try:
            async for message in messages:
                await self._room.acquire()
                last = self._begin(message, last)
            while self._tasks:
                await asyncio.wait(self._tasks)
        except asyncio.CancelledError:
            raise  # nobody takes answers any more, not even the one that ends them
        except Exception:
            await self._answers.put(None)
            raise
        await self._answers.put(None)

    def _begin(self, message: bytes, last: asyncio.Task[None] | None) -> asyncio.Task[None] | None:
        request_id, many, received_ns = "", False, self._dispatch.engine.clock()
        try:
            parsed = parse(pb.ModelInferRequest, message)
            request_id = parsed.id[: limits.ID_CHARS_MAX]
            request = decode_request(parsed, self._deadline, self._dispatch.engine.clock)
            many = self._dispatch.engine.streams(request.model, request.version)
            account = self._accounts.open(request, self._asked, received_ns)
        except VireoError as error:
            work = self._in_turn(_error(error, request_id), last)
        else:
            work = self._answer_parts(request, account) if many else self._answer(request, account, last)
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return last if many else task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.release()

    async def _answer(self, request: Request, account: Account | None, last: asyncio.Task[None] | None) -> None:
        try:
            response = await accounted(account, self._dispatch.infer(request))
            encoded = encode_response(response)
            answer = _answer(encoded, [] if account is None else account.answered(response), final=True)
        except Exception as error:
            answer = _error(error, request.id)
        await self._in_turn(answer, last)

    async def _in_turn(self, answer: bytes, last: asyncio.Task[None] | None) -> None:
        if last is not None:
            await asyncio.wait([last])
        await self._answers.put(answer)

    async def _answer_parts(self, request: Request, account: Account | None) -> None:
        end = pb.ModelInferResponse(model_name=request.model, id=request.id)
        try:
            last = await accounted(account, self._send_parts(request, account, end))
        except Exception as error:
            await self._answers.put(_error(error, request.id))
            return
        if account is not None:
            account.ended(last)
        if request.parameters.get("triton_enable_empty_final_response"):
            await self._answers.put(_answer(end, [], final=True))

    async def _send_parts(
        self, request: Request, account: Account | None, end: pb.ModelInferResponse
    ) -> Response | None:
        """Sends answers as they come, telling `end` their version; the last one."""
        response = None
        async for response in self._dispatch.stream(request):
            end.model_version = str(response.version)
            encoded = encode_response(response)
            pairs = [] if account is None else account.part(response)
            await self._answers.put(_answer(encoded, pairs, final=False))
        return response


def _answer(message: pb.ModelInferResponse, pairs: Pairs, *, final: bool) -> bytes:
    """An answer with what would be trailing metadata of a unary call as parameters: of a stream that comes but once."""
    message.parameters["triton_final_response"].bool_param = final
    for name, value in pairs:
        message.parameters[name.replace("-", "_")].string_param = value
    encoded: bytes = pb.ModelStreamInferResponse(infer_response=message).SerializeToString()
    return encoded


def _error(error: Exception, request_id: str) -> bytes:
    """An answer in place of a response; every request gets one, whatever happens."""
    if not isinstance(error, VireoError):
        log.error("unexpected error in %s", "ModelStreamInfer", exc_info=error)
        error = Internal(f"internal error: {type(error).__name__}")
    message = pb.ModelStreamInferResponse(error_message=told(error))
    message.infer_response.id = request_id
    after_ms = retry_after_ms(error)
    if after_ms is not None:
        message.infer_response.parameters["retry_after_ms"].int64_param = after_ms
    encoded: bytes = message.SerializeToString()
    return encoded
