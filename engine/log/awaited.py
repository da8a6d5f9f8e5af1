"""Who waits until a log is followed up to some offsets: threads that block, and calls that are made then."""

from __future__ import annotations

import threading
from collections.abc import Callable

from engine.log.log import Offsets


class Awaited:
    """`has`: whether everything before some offsets is followed by now. Any thread; `moved` is for who follows."""

    def __init__(self, has: Callable[[Offsets], bool]) -> None:
        self._has = has
        self._calls: dict[Callable[[], None], Offsets] = {}
        self.changed = threading.Condition()
        """Is notified by `moved`."""

    def wait(self, offsets: Offsets, timeout_s: float) -> bool:
        """Whether everything before `offsets` is followed, at the latest after `timeout_s`."""
        if self._has(offsets):
            return True
        with self.changed:
            return self.changed.wait_for(lambda: self._has(offsets), timeout_s)

    def tell(self, offsets: Offsets, call: Callable[[], None]) -> bool:
        """Whether `call` will be called, once, on the thread that follows, when everything before `offsets` is: not where it is
        already. `tell_no_more` takes it back."""
        with self.changed:
            if self._has(offsets):
                return False
            self._calls[call] = offsets
            return True

    def tell_no_more(self, call: Callable[[], None]) -> None:
        """Forgets `call`, where it was not called yet."""
        with self.changed:
            self._calls.pop(call, None)

    def moved(self) -> None:
        """More is followed than before: whoever waits looks again."""
        with self.changed:
            self.changed.notify_all()
            reached = [call for call, offsets in self._calls.items() if self._has(offsets)]
            for call in reached:
                del self._calls[call]
        for call in reached:
            call()
