"""The regions of shared memory that the server of one connection has mapped: which are free, how many may be, and their end.

A request never waits for one: where none is free it goes in a message, and one more is made for the next. One that the server may
still read or write when nobody waits for its call any more is used for nothing else, and is the server's until it lets go of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from engine.clock import Clock
from engine.errors import Unavailable, Unimplemented, VireoError
from engine.limits import TRITON_CLOSE_S_MAX
from engine.triton.messages import answered, regions_in, request_of, shares_memory
from engine.triton.shared_memory import FOLDER, Owner, Region, ownerless, remove_ownerless

log = logging.getLogger("vireo.triton")

BYTES_MAX, _REGION_BYTES_MIN = 256 << 20, 1 << 20
"""Of the regions that one connection shares with its server: all together, and each."""

_PAUSE_S, _PAUSE_S_MAX, _FULL_S = 10.0, 3_600.0, 0.1
"""After a region could not be shared none is made for so long, twice as long each time; the third: after no room."""

_UNREGISTER_S, _UNREGISTER_S_MAX, _CLOSING_S = 0.5, 30.0, 0.05
"""A server that still uses a region is asked so often to let go of it: at first, after a while, and while this is closed."""

Ask = Callable[[str, bytes], bytes]
"""Asks the server by method and framed request, and waits for its answer. Raises VireoError, Unavailable where none comes."""


class Regions:
    """All methods from any thread. Regions are made, registered and unregistered by one thread, which lives while there is any
    such thing to do."""

    def __init__(
        self,
        server: str,
        ask: Ask,
        clock: Clock,
        *,
        bytes_max: int = BYTES_MAX,
        folder: Path = FOLDER,
    ) -> None:
        self._server, self._ask, self._clock = server, ask, clock
        self._bytes_max, self._folder = bytes_max, folder
        self._lock = threading.Lock()
        self._free: list[Region] = []
        """Those used last at the end."""
        self._retired: list[Region] = []
        self._bytes = self._wanted = self._failures = 0
        self._not_before_ns = 0
        self._owner: Owner | None = None
        self._tidied = self._ended = False
        self._worker: threading.Thread | None = None
        self._due = threading.Event()
        self.taken = 0
        """So many requests had one."""

    @property
    def bytes(self) -> int:
        """Of all that the server has mapped."""
        return self._bytes

    def take(self, size: int) -> Region | None:
        """A region of `size` bytes or more, for one call; None where none is free now."""
        with self._lock:
            fitting = [each for each in reversed(self._free) if each.size >= size]
            if fitting:
                found = min(fitting, key=lambda each: each.size)
                self._free.remove(found)
                self.taken += 1
                return found
            if size > self._bytes_max or self._ended or self._clock() < self._not_before_ns:
                return None
            self._wanted = max(self._wanted, size)
        self._work()
        return None

    def give_back(self, region: Region) -> None:
        """The server is done with it."""
        with self._lock:
            if not self._ended:
                self._free.append(region)

    def retire(self, region: Region) -> None:
        """The server may still use it."""
        with self._lock:
            if not self._ended:
                self._retired.append(region)
        self._work()

    def forgotten(self) -> None:
        """The server does not know a region that was registered: someone told it to forget all of them, or it is another one."""
        with self._lock:
            self._retired += self._free
            self._free.clear()
        self._pause("the server has forgotten its regions")
        self._work()

    def close(self, *, unregister: bool) -> None:
        """There are none any more. `unregister`: the server, which answers on another thread, is told that; what it still uses
        after TRITON_CLOSE_S_MAX it keeps until another process finds it."""
        with self._lock:
            self._ended, self._wanted, worker = True, 0, self._worker
        self._due.set()
        if unregister and worker is not None:
            worker.join(TRITON_CLOSE_S_MAX)
        with self._lock:
            left, owner = self._free + self._retired, self._owner
            self._free, self._retired, self._owner = [], [], None
        if unregister:
            self._unregister_all(left)
        if owner is not None:
            owner.close()

    def _unregister_all(self, left: list[Region]) -> None:
        until_ns = self._clock() + int(TRITON_CLOSE_S_MAX * 1e9)
        try:
            while left := [each for each in left if not self._unregister(each.name)]:
                if self._clock() > until_ns:
                    return
                time.sleep(_CLOSING_S)
        except Unavailable as error:
            log.info("Triton server %s: keeps %d regions of shared memory: %s", self._server, len(left), error)

    def _pause(self, why: str) -> None:
        with self._lock:
            if self._ended or self._clock() < self._not_before_ns:
                return
            pause_s = min(_PAUSE_S * 2**self._failures, _PAUSE_S_MAX)
            self._failures += 1
            self._not_before_ns = self._clock() + int(pause_s * 1e9)
        log.info("Triton server %s: no more shared memory for %.0f s: %s", self._server, pause_s, why)

    def _work(self) -> None:
        self._due.set()
        with self._lock:
            if self._worker is not None or self._ended:
                return
            self._worker = threading.Thread(target=self._until_done, name="vireo-triton-regions", daemon=True)
            self._worker.start()

    def _until_done(self) -> None:
        wait_s = _UNREGISTER_S
        while True:
            self._due.clear()
            wanted = self._wanted
            try:
                if wanted:
                    self._grow(wanted)
                self._unregister_retired()
            except (OSError, VireoError) as error:
                self._pause(error.message if isinstance(error, VireoError) else str(error))
            with self._lock:
                if self._wanted == wanted:  # those who found none meanwhile may have what was made
                    self._wanted = 0
                if self._ended or not (self._retired or self._wanted):
                    self._worker = None
                    return
            wait_s = _UNREGISTER_S if self._due.wait(wait_s) else min(2 * wait_s, _UNREGISTER_S_MAX)

    def _grow(self, wanted: int) -> None:
        size = max(_REGION_BYTES_MIN, 1 << (wanted - 1).bit_length())
        if not self._make_room(size):
            with self._lock:
                self._not_before_ns = max(self._not_before_ns, self._clock() + int(_FULL_S * 1e9))
            return
        region = self._known_owner().region(size)
        try:
            told = request_of("SystemSharedMemoryRegister", name=region.name, key=f"/{region.name}", byte_size=size)
            self._ask("SystemSharedMemoryRegister", told)
        finally:
            region.unlink()
        with self._lock:
            self._free.append(region)
            self._bytes += size
        if not self._tidied:
            self._tidied = True
            self._unregister_ownerless()

    def _known_owner(self) -> Owner:
        """Ours, once the server is known to be one that can share memory."""
        if self._owner is not None:
            return self._owner
        if not shares_memory(answered("ServerMetadata", self._ask("ServerMetadata", request_of("ServerMetadata")))):
            raise Unimplemented("it takes Triton 2.50 or later, with the extension system_shared_memory")
        remove_ownerless(self._folder)
        made = Owner(self._folder)
        with self._lock:
            if not self._ended:
                self._owner = made
                return made
        made.close()
        raise Unavailable("the connection has ended")

    def _make_room(self, size: int) -> bool:
        """Whether one more of `size` bytes may be; smaller ones that are free give way to it, the longest unused first."""
        with self._lock:
            over = self._bytes + size - self._bytes_max - sum(each.size for each in self._retired)
            smaller = [each for each in self._free if each.size < size]
            if sum(each.size for each in smaller) < over:
                return False
            while over > 0:
                given_up = smaller.pop(0)
                self._free.remove(given_up)
                self._retired.append(given_up)
                over -= given_up.size
        if self._bytes + size > self._bytes_max:
            self._unregister_retired()
        return self._bytes + size <= self._bytes_max

    def _unregister_retired(self) -> None:
        with self._lock:
            retired = list(self._retired)
        for each in retired:
            if self._unregister(each.name):
                with self._lock:
                    if each in self._retired:  # they are not closed meanwhile
                        self._retired.remove(each)
                        self._bytes -= each.size

    def _unregister(self, name: str) -> bool:
        """Whether the server let go of it; it does not while a call uses it. Raises Unavailable where the server is away."""
        try:
            self._ask("SystemSharedMemoryUnregister", request_of("SystemSharedMemoryUnregister", name=name))
        except Unavailable:
            raise
        except VireoError:
            return False
        return True

    def _unregister_ownerless(self) -> None:
        """Of processes that were killed, and of connections that broke. The server sees our shared memory: it mapped a region."""
        method = "SystemSharedMemoryStatus"
        for name in regions_in(answered(method, self._ask(method, request_of(method)))):
            if ownerless(name, self._folder):
                self._unregister(name)
