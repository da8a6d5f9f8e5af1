"""One view's thread: reads the log, folds it, hands on what is dead, lets readers see the rest, and saves the state.

A log that cannot be read is tried again and again, and told of in `error`; reads go on meanwhile from what is folded. What
trying again cannot help ends the thread before the view has ever been ready (`failure`), never after.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.errors import (
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    Unavailable,
    VireoError,
    quoted,
)
from engine.features.shards import Shards
from engine.limits import FEATURE_READ_ROWS_MAX, FEATURE_RETRY_S_MAX, FEATURE_RETRY_S_MIN
from engine.log.awaited import Awaited
from engine.log.log import Appended, Chunk, Log, LogReader, Offsets

if TYPE_CHECKING:
    from engine.features.dead_letters import DeadLetters
    from engine.features.sampling import Sampling
    from engine.features.saving import Saving

log = logging.getLogger("vireo.features")

_READ_S = 0.25
"""How long a read waits for more: so long may a close, or a snapshot that is due, have to wait."""

_HOPELESS = (FailedPrecondition, InvalidArgument, NotFound)


class Pipeline:
    """The thread. `log` gives the log to read, another one when it was opened anew. Public methods: any thread."""

    def __init__(
        self,
        name: str,
        log: Callable[[], Log],
        shards: Shards,
        saving: Saving,
        letters: DeadLetters,
        sampling: Sampling | None = None,
    ) -> None:
        self._name, self._log, self._sampling = name, log, sampling
        self._shards, self._saving, self._letters = shards, saving, letters
        self._stop = threading.Event()
        self._awaited = Awaited(shards.has)
        self._sound = True
        self._read_error = ""
        self.ready = False
        """Whether what the log held at the start is folded; set once, or anew with every partition that a group gives."""
        self.failure: VireoError | None = None
        self._thread = threading.Thread(target=self._run, name=f"vireo-view-{name}", daemon=True)

    def start(self) -> None:
        """Begins to restore and then to follow."""
        self._thread.start()

    def close(self) -> None:
        """Ends the thread, after what it is doing and a last snapshot."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def error(self) -> str:
        """What is wrong now, in a sentence; empty where nothing is."""
        return self.failure.message if self.failure else self._read_error or self._saving.error

    def await_ready(self, timeout_s: float) -> bool:
        """Whether it is ready, at the latest after `timeout_s`; at once where it never will be."""
        with self._awaited.changed:
            return (
                self._awaited.changed.wait_for(lambda: self.ready or self.failure is not None, timeout_s) and self.ready
            )

    def wait(self, appended: Appended, timeout_s: float) -> bool:
        """Whether these entries are folded, at the latest after `timeout_s`."""
        return self._awaited.wait(appended.offsets, timeout_s)

    def tell(self, offsets: Offsets, call: Callable[[], None]) -> bool:
        """See `Awaited.tell`: on the view's thread, when everything before `offsets` is folded."""
        return self._awaited.tell(offsets, call)

    def tell_no_more(self, call: Callable[[], None]) -> None:
        """See `Awaited.tell_no_more`."""
        self._awaited.tell_no_more(call)

    # The thread.

    def _run(self) -> None:
        try:
            if self._retried(self._begin):
                while not self._stop.is_set():
                    self._retried(self._follow)
        except Exception as error:
            self._end_with(error)
        finally:
            self._saving.save(self._shards.folds.values())
            self._letters.close()

    def _retried(self, step: Callable[[], None]) -> bool:
        """Does `step` until it succeeds; False where it was stopped before. Raises what cannot succeed."""
        pause_s = FEATURE_RETRY_S_MIN
        while not self._stop.is_set():
            folded = self._shards.offsets()
            try:
                step()
            except Exception as error:
                if self._is_hopeless(error):
                    raise
                self._tell(error)
            else:
                return True
            pause_s = FEATURE_RETRY_S_MIN if self._shards.offsets() != folded else min(2 * pause_s, FEATURE_RETRY_S_MAX)
            self._stop.wait(pause_s)
        return False

    def _is_hopeless(self, error: Exception) -> bool:
        """Whether trying again cannot help; of a view that answers, hope is never given up."""
        may_pass = isinstance(error, VireoError | OSError) and not isinstance(error, _HOPELESS)
        return not self._sound or not (self.ready or may_pass)

    def _tell(self, error: Exception) -> None:
        text = error.message if isinstance(error, VireoError) else f"{type(error).__name__}: {error}"
        if text != self._read_error and not self._stop.is_set():
            log.warning("feature view %s: %s; it is tried again, and reads go on", self._name, text)
            self._read_error = text

    def _begin(self) -> None:
        self._shards.begin(self._log(), self._letters.put, self._stop.is_set)
        self._moved()

    def _follow(self) -> None:
        """Reads until it is stopped, or the log is another."""
        source = self._log()
        reader = source.reader(self._shards)
        try:
            while not self._stop.is_set() and self._log() is source:
                chunks = self._read(reader, source)
                for chunk in chunks:
                    self._fold(chunk)
                if chunks or self.ready != self._shards.caught_up:
                    self._moved()
                self._saving.save_if_due(self._shards.folds.values())
                if self._sampling is not None:
                    self._sampling.save_if_due()
        finally:
            self._leave(reader)

    def _leave(self, reader: LogReader) -> None:
        try:
            reader.close()
        except VireoError as error:
            self._tell(error)

    def _read(self, reader: LogReader, source: Log) -> list[Chunk]:
        """What follows. A log that cannot be reached is asked again by the same reader, which keeps its place."""
        pause_s = FEATURE_RETRY_S_MIN
        while True:
            try:
                chunks = reader.read(FEATURE_READ_ROWS_MAX, _READ_S)
            except Unavailable as error:
                if self._log() is not source:  # closed, because it was opened anew
                    return []
                self._tell(error)
                if self._stop.wait(pause_s):
                    return []
                pause_s = min(2 * pause_s, FEATURE_RETRY_S_MAX)
                continue
            fault, self._shards.fault = self._shards.fault, None
            if fault is not None:
                raise fault
            self._read_error = ""
            return chunks

    def _fold(self, chunk: Chunk) -> None:
        try:
            self._letters.put(self._shards.ingest(chunk))
        except BaseException:
            self._sound = False
            self._saving.give_up()  # half a chunk may be folded
            raise

    def _moved(self) -> None:
        """Tells those who wait for entries, or for the view to be ready."""
        with self._awaited.changed:
            self.ready = self._shards.caught_up
        self._awaited.moved()

    def _end_with(self, error: Exception) -> None:
        where = f"feature view {quoted(self._name)}"
        known = error if isinstance(error, VireoError) else Internal(f"{where}: {type(error).__name__}: {error}")
        log.error("%s: it follows its log no more: %s", where, known.message, exc_info=error)
        with self._awaited.changed:
            self._read_error = known.message
            if not self.ready:
                self.failure = known
            self._awaited.changed.notify_all()
