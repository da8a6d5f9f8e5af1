"""What commands that run for long share."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import Future

import pytest

from serving.long_run import result_of
from tests.fakes import PATIENCE_S


def test_a_signal_that_ends_no_wait_is_heard_while_a_future_is_waited_for() -> None:
    """As one that comes just before the wait begins: here it is given to another thread."""
    heard, future = threading.Event(), Future[bool]()

    def work() -> None:
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        future.set_result(heard.wait(PATIENCE_S))

    before = signal.signal(signal.SIGUSR1, lambda *_: heard.set())
    try:
        threading.Timer(0.1, work).start()  # the wait has begun
        assert result_of(future)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_what_a_future_fails_with_is_raised_also_a_timeout() -> None:
    future = Future[None]()
    future.set_exception(TimeoutError("its own"))
    with pytest.raises(TimeoutError, match="its own"):
        result_of(future)
