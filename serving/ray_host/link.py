"""The way from one replica to a deployment: calls of its Ray handle, made on the loop that Ray runs this replica's methods on."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Coroutine, Generator
from typing import Any, Final, TypeVar

from ray.exceptions import RayActorError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from engine import Cancelled, Clock, Deadline, DeadlineExceeded, Described, Request, Response, Unavailable
from serving.ray_host.hop import Message, description_of, request_message, response_of

_DESCRIBE_S_MAX: Final = 600.0
"""So long a replica waits until another deployment has warmed what it needs of it."""
_TRIES: Final = 3
"""A call whose replica died is made again: models and functions may be computed twice."""
_GRACE_S: Final = 1.0
"""Over the deadline, at which the other side answers by itself."""

Result = TypeVar("Result")


class RayLink:
    """See `engine.Link`. Made on the loop of Ray's methods."""

    def __init__(self, deployment: str, handle: DeploymentHandle, clock: Clock) -> None:
        self._deployment = deployment
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        plain = handle.options(request_serialization="pickle", response_serialization="pickle")
        self._describing = plain.options(method_name="describe")
        self._calling = plain.options(method_name="call")
        self._streaming = plain.options(method_name="stream", stream=True)

    def describe(self, name: str, version: int) -> Described:
        """See `engine.Link`."""

        async def ask() -> Message:
            found: Message = await self._describing.remote(name, version)
            return found

        try:
            return description_of(self._soon(ask()).result(_DESCRIBE_S_MAX))
        except (RayActorError, RayServeException, TimeoutError) as error:
            raise Unavailable(f"deployment '{self._deployment}' does not answer: {error}") from error

    def begin(self, request: Request, *, stream: bool) -> RayCall:
        """See `engine.Link`."""
        message = request_message(request, self._clock)
        opened = self._open(message) if stream else self._call(message)
        return RayCall(self, request, self._soon(opened))

    def _soon(self, work: Coroutine[Any, Any, Result]) -> concurrent.futures.Future[Result]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _call(self, message: Message) -> Message:
        for last in (*[False] * (_TRIES - 1), True):
            response = self._calling.remote(message)
            try:
                answer: Message = await response
                return answer
            except asyncio.CancelledError:
                response.cancel()
                raise
            except (RayActorError, RayServeException):
                if last:
                    raise
        raise AssertionError

    async def _open(self, message: Message) -> Any:  # noqa: ANN401  Ray's generator of responses
        return self._streaming.remote(message)

    def next_of(self, stream: Any) -> concurrent.futures.Future[Message | None]:  # noqa: ANN401
        """The next message of a stream, None at its end."""

        async def take() -> Message | None:
            return await anext(stream, None)

        return self._soon(take())

    def leave(self, stream: Any) -> None:  # noqa: ANN401
        """Nobody takes of it any more."""
        self._loop.call_soon_threadsafe(stream.cancel)

    def wait(self, future: concurrent.futures.Future[Result], request: Request) -> Result:
        """What comes, until a little after the deadline. Raises VireoError."""
        name, deadline = f"model '{request.model}'", request.deadline
        left_s = None if deadline == Deadline.NEVER else deadline.remaining_s(self._clock()) + _GRACE_S
        try:
            return future.result(left_s)
        except concurrent.futures.CancelledError as error:
            raise Cancelled(f"{name}: the caller is gone") from error
        except TimeoutError as error:
            future.cancel()
            raise DeadlineExceeded(f"{name}: deployment '{self._deployment}' did not answer in time") from error
        except (RayActorError, RayServeException) as error:
            raise Unavailable(f"{name}: deployment '{self._deployment}' lost the call: {error}") from error


class RayCall:
    """See `engine.LinkCall`."""

    def __init__(self, link: RayLink, request: Request, future: concurrent.futures.Future[Any]) -> None:
        self._link, self._request = link, request
        self._future = future

    def result(self) -> Response:
        """See `engine.LinkCall`."""
        return response_of(self._link.wait(self._future, self._request))

    def parts(self) -> Generator[Response, None, None]:
        """See `engine.LinkCall`."""
        stream = self._link.wait(self._future, self._request)
        try:
            while True:
                self._future = self._link.next_of(stream)
                message = self._link.wait(self._future, self._request)
                if message is None:
                    return
                yield response_of(message)
        finally:
            self._link.leave(stream)

    def cancel(self) -> None:
        """See `engine.LinkCall`."""
        self._future.cancel()
