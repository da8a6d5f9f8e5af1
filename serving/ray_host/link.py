"""The way from one replica to a deployment: calls of its Ray handle, made on the loop that Ray runs this replica's methods on.

Who calls on that loop, as our own doors do, changes no thread on the way there or back. Requests to one servable that go out
in one turn go in one call, for what a call costs is Ray's.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable
from typing import Any, Final, TypeVar

from ray.exceptions import RayActorError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from engine import (
    Answered,
    Cancelled,
    Clock,
    Deadline,
    DeadlineExceeded,
    Described,
    Internal,
    Request,
    Response,
    Unavailable,
    VireoError,
)
from serving.ray_host.hop import Message, description_of, outcome_of, request_message, response_of
from serving.ray_host.languages import RayLanguages

_DESCRIBE_S_MAX: Final = 600.0
"""So long a replica waits until another deployment has warmed what it needs of it."""
_TRIES: Final = 3
"""A call whose replica died is made again: models and functions may be computed twice."""
_GRACE_S: Final = 1.0
"""Over the deadline, at which the other side answers by itself."""
_ELSEWHERE_S: Final = 0.005
"""Before another replica is asked for what one has not yet, or no longer, as it is declared here: while an update goes on."""
_ELSEWHERE_MAX: Final = 1_000
_TOGETHER_MAX: Final = 64
"""Requests in one call."""

Result = TypeVar("Result")


class RayLink:
    """See `engine.Link`. Made on the loop of Ray's methods."""

    def __init__(self, deployment: str, handle: DeploymentHandle, clock: Clock) -> None:
        self._deployment = deployment
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._outgoing: deque[RaySent] = deque()
        self._carried = set[asyncio.Task[None]]()
        plain = handle.options(request_serialization="pickle", response_serialization="pickle")
        self._describing = plain.options(method_name="describe")
        self._calling = plain.options(method_name="call")
        self._calling_together = plain.options(method_name="together")
        self._streaming = plain.options(method_name="stream", stream=True)
        self.languages = RayLanguages(deployment, plain, clock)
        """See `engine.Link`."""

    def describe(self, name: str, version: int, declared: str | None = None) -> Described:
        """See `engine.Link`."""

        async def ask() -> Message:
            while True:
                found: Message | None = await self._describing.remote(name, version, declared)
                if found is not None:
                    return found
                await asyncio.sleep(_ELSEWHERE_S)

        asking = self._soon(ask())
        try:
            return description_of(asking.result(_DESCRIBE_S_MAX))
        except (RayActorError, RayServeException, TimeoutError) as error:
            asking.cancel()
            raise Unavailable(f"deployment '{self._deployment}' does not answer: {error}") from error

    def begin(self, request: Request, *, stream: bool) -> RayCall:
        """See `engine.Link`."""
        message = request_message(request, self._clock)
        opened = self._open(message) if stream else self._call(message)
        return RayCall(self, request, self._soon(opened))

    def send(
        self, request: Request, declared: str, answered: Answered, *, alone: bool, patient: bool = True
    ) -> RaySent:
        """See `engine.Link`."""
        sent = RaySent(self, request, declared, answered, alone=alone, patient=patient)
        self._outgoing.append(sent)
        return sent

    def flush(self) -> None:
        """See `engine.Link`."""
        self.on_loop(self._go)

    def on_loop(self, do: Callable[[], None]) -> None:
        """Now where this is the loop's thread, else soon."""
        if threading.get_ident() == self._thread:
            do()
        else:
            self._loop.call_soon_threadsafe(do)

    def _go(self) -> None:
        going = [self._outgoing.popleft() for _ in range(len(self._outgoing))]
        for calls in _together([each for each in going if not each.ended]):
            task = self._loop.create_task(self._carry(calls))
            self._carried.add(task)  # a loop holds its tasks weakly
            task.add_done_callback(self._carried.discard)
            for each in calls:
                each.carry = task, calls
                if not each.patient and each.request.deadline != Deadline.NEVER:
                    left_s = each.request.deadline.remaining_s(self._clock())
                    each.timer = self._loop.call_later(left_s, each.expire)

    async def _carry(self, calls: list[RaySent]) -> None:
        """Every one of `calls` is told its end, unless all of them are cancelled."""
        name = f"model '{calls[0].request.model}'"
        deadline = max((each.request.deadline for each in calls), key=lambda each: each.at_ns)
        left_s = None if deadline == Deadline.NEVER else deadline.remaining_s(self._clock()) + _GRACE_S
        error: VireoError
        try:
            async with asyncio.timeout(left_s):
                answers = await self._answers(calls)
            outcomes = list(zip(calls, map(outcome_of, answers), strict=True))
        except TimeoutError:
            error = DeadlineExceeded(f"{name}: deployment '{self._deployment}' did not answer in time")
        except (RayActorError, RayServeException) as lost:
            error = Unavailable(f"{name}: deployment '{self._deployment}' lost the call: {lost}")
        except VireoError as none:
            error = none
        except Exception as broken:
            error = Internal(f"{name}: deployment '{self._deployment}': {type(broken).__name__}: {broken}")
        else:
            for call, outcome in outcomes:
                call.end(outcome)
            return
        for call in calls:
            call.end(error)

    async def _answers(self, calls: list[RaySent]) -> tuple[Message, ...]:
        messages = tuple([request_message(each.request, self._clock) for each in calls])
        declared = calls[0].declared
        for _ in range(_ELSEWHERE_MAX):
            found: tuple[Message, ...] | None = await self._tried(self._calling_together, declared, messages)
            if found is not None:
                return found
            await asyncio.sleep(_ELSEWHERE_S)
        raise Unavailable(
            f"model '{calls[0].request.model}': no replica of deployment '{self._deployment}' has it as it is declared here"
        )

    def _soon(self, work: Coroutine[Any, Any, Result]) -> concurrent.futures.Future[Result]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _call(self, message: Message) -> Message:
        answer: Message = await self._tried(self._calling, message)
        return answer

    async def _tried(self, method: DeploymentHandle, *arguments: object) -> Any:  # noqa: ANN401  what the method gives
        for last in (*[False] * (_TRIES - 1), True):
            response = method.remote(*arguments)
            try:
                return await response
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


class RaySent:
    """See `engine.RemoteCall`. All but `cancel` for the link's loop."""

    def __init__(
        self, link: RayLink, request: Request, declared: str, answered: Answered, *, alone: bool, patient: bool
    ) -> None:
        self._link, self._answered = link, answered
        self.request, self.declared, self.alone, self.patient = request, declared, alone, patient
        self.ended = False
        self.carry: tuple[asyncio.Task[None], list[RaySent]] | None = None
        """What carries it, and all that it carries."""
        self.timer: asyncio.TimerHandle | None = None
        """Of its deadline, where it is not to be waited for longer."""

    def cancel(self) -> None:
        """See `engine.RemoteCall`."""
        self._link.on_loop(self._cancel)

    def _cancel(self) -> None:
        self._leave(Cancelled(f"model '{self.request.model}': the caller is gone"))

    def expire(self) -> None:
        """Its deadline has passed, and nobody is to wait any longer."""
        self._leave(DeadlineExceeded(f"model '{self.request.model}': not answered in time"))

    def _leave(self, why: VireoError) -> None:
        carry = self.carry
        self.end(why)
        if carry is not None:
            task, calls = carry
            if all(each.ended for each in calls):
                task.cancel()

    def end(self, outcome: Response | VireoError) -> None:
        """Tells it, the first time."""
        if not self.ended:
            self.ended, self.carry = True, None
            if self.timer is not None:  # it would keep the request until then
                self.timer.cancel()
            self._answered(outcome)


def _together(sent: Iterable[RaySent]) -> list[list[RaySent]]:
    """What goes as one call: requests to one servable, so many."""
    found: list[list[RaySent]] = []
    open_by_servable: dict[tuple[str, int | None, str], list[RaySent]] = {}
    for each in sent:
        key = each.request.model, each.request.version, each.declared
        group = open_by_servable.get(key)
        if each.alone or group is None or len(group) == _TOGETHER_MAX:
            group = []
            found.append(group)
            if not each.alone:
                open_by_servable[key] = group
        group.append(each)
    return found


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
