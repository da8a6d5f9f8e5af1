"""Callers that go on until they are told to end: what each call gave, or how it failed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from tests.serving.calls import given, numbers
from tests.serving.ray_host.conftest import START_S
from tests.serving.servers import eventually
from tests.serving.test_graphs_over_wire import values_of

_ALONE = [("grpc.use_local_subchannel_pool", 1)]
"""gRPC has channels to one address share a connection otherwise."""

_NOTICED_S = 0.01
"""After a failure: gRPC may put a call that comes at once into the connection that it has just lost."""


def numbers_of(users: Sequence[str]) -> list[tritonclient.grpc.InferInput]:
    """1.0 for each of them, and their names."""
    names = np.array(users, object)
    return [*numbers(*[1.0] * len(users)), given("user", names, "BYTES")]


class Callers:
    """Each asks `model` for 1.0, over a connection of its own, or `anew`, over another each time; as one of `users` if any."""

    def __init__(self, address: str, model: str, users: Sequence[str] = (), *, anew: bool = False) -> None:
        asked = [numbers_of([each]) for each in users] or [numbers(1.0)] * 4
        self.answers: list[list[float | str]] = [[] for _ in asked]
        """By caller, in order: what came, or the words of the failure."""
        self._address, self._model, self._anew = address, model, anew
        self._over = threading.Event()
        pairs = zip(asked, self.answers, strict=True)
        self._threads = [threading.Thread(target=self._call, args=each) for each in pairs]

    def _call(self, asked: list[tritonclient.grpc.InferInput], answers: list[float | str]) -> None:
        with ExitStack() as stack:
            client = None
            while not self._over.is_set():
                if client is None or self._anew:
                    stack.close()
                    client = stack.enter_context(
                        tritonclient.grpc.InferenceServerClient(self._address, channel_args=_ALONE)
                    )
                try:
                    answers += values_of(client.infer(self._model, asked))
                except InferenceServerException as error:
                    answers.append(str(error))
                    time.sleep(_NOTICED_S)

    def calls(self) -> int:
        """So far."""
        return sum(map(len, self.answers))

    def failures(self) -> list[str]:
        """So far."""
        return [each for answers in self.answers for each in answers if isinstance(each, str)]

    def until_more(self, count: int) -> None:
        """Returns when so many more calls have ended."""
        goal = self.calls() + count
        eventually(lambda: self.calls() >= goal, "calls are answered", START_S)

    def until_all(self, holds: Callable[[list[float | str]], bool], told: str) -> None:
        """Returns when it holds for each caller's answers."""
        eventually(lambda: all(map(holds, self.answers)), told, START_S)

    def start(self) -> None:
        """Lets them call."""
        for each in self._threads:
            each.start()

    def end(self) -> None:
        """Lets them finish."""
        self._over.set()
        for each in self._threads:
            each.join(START_S)


@contextmanager
def calling(address: str, model: str, users: Sequence[str] = (), *, anew: bool = False) -> Iterator[Callers]:
    """Callers within this."""
    callers = Callers(address, model, users, anew=anew)
    callers.start()
    try:
        yield callers
    finally:
        callers.end()
