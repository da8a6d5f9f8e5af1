"""Appends what graphs and splits leave for one log: in the background, or before the answer where that is to be durable.

A request's thread leaves references behind; a thread of this writer makes columns of them and appends. What comes while it
appends goes together in its next append. While the log is away rows wait, up to a bound, and are tried again with growing
pauses; a row that does not fit the log is counted, told in the program's log, and never tried again.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from itertools import groupby
from time import thread_time
from typing import TYPE_CHECKING, Any, Final, Protocol

from engine.clock import Clock, monotonic
from engine.errors import Internal, InvalidArgument, NotFound, ResourceExhausted, TooLarge, Unavailable, VireoError
from engine.limits import FEATURE_RETRY_S_MAX, FEATURE_RETRY_S_MIN, RECORDS_WAITING_MAX
from engine.work import here

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.log.log import Appended

log = logging.getLogger("vireo.graph")

_APPEND_ROWS_MAX: Final = 8_192
"""Rows of one append."""

_GATHER_S: Final = 0.01
"""What nobody waits for gathers at least for so long: a thread that woke for each row would take the interpreter from those who
serve, and an append of few rows costs a log, and the views that fold it, as much as one of hundreds."""

_RESTS: Final = 32
"""It rests so many times as long as its last append took of a core: few rows cost nearly what hundreds do. Once as long where a
whole append waits, and so it takes half of a core at most."""

_REST_S_MAX: Final = 0.25
"""But never longer than this."""

_TELL_NS: Final = 60 * 10**9
"""The program's log hears of lost and rejected rows once a minute."""

Done = Callable[[VireoError | None], None]
"""Told once: None where the rows are as safe as the log's durability says."""


class Rows(Protocol):
    """What one request leaves for a log. Never changed once offered."""

    @property
    def maker(self) -> Any:  # noqa: ANN401  a Maker of this kind of rows
        """Makes columns of it, and of others of the same maker."""

    @property
    def count(self) -> int:
        """Rows, at least one."""

    def singles(self) -> Sequence[Rows]:
        """Each row alone."""


@dataclass(slots=True)
class RecordStatistics:
    """Rows of one log so far. `lost`: did not fit those that wait, or waited in vain at the end; `rejected`: do not fit the
    log; `failed`: durable ones whose append failed, which their callers were told. `waiting`: now."""

    appended: int = 0
    lost: int = 0
    rejected: int = 0
    failed: int = 0
    waiting: int = 0


class _State(Enum):
    """What its thread does. ASLEEP: nothing waits. RESTING: rows gather for the next append. PAUSING: the log is away."""

    AT_WORK = auto()
    ASLEEP = auto()
    RESTING = auto()
    PAUSING = auto()


@dataclass(slots=True)
class _Entry:
    """`done` where it is durable. `count` is kept, for asking costs."""

    rows: Rows
    count: int
    done: Done | None


class RecordWriter:
    """Of one log, by name. Methods may be called from any thread; `close` once.

    `push` appends a batch to the log of that name and returns when it is safe; `schema` is the log's. See `FeatureStore`.
    """

    def __init__(
        self,
        name: str,
        *,
        push: Callable[[str, pa.RecordBatch], Appended],
        schema: Callable[[str], pa.Schema],
        clock: Clock = monotonic,
    ) -> None:
        from engine.graph.record_columns import make_ready

        make_ready()  # now, not while requests wait for the interpreter
        self._name, self._push, self._schema, self._clock = name, push, schema, clock
        self._changed = threading.Condition()
        self._durable: deque[_Entry] = deque()  # their callers wait: they go first
        self._waiting: deque[_Entry] = deque()
        self._counts = RecordStatistics()
        self._thread: threading.Thread | None = None
        self._state = _State.AT_WORK
        self._pause_s = self._took_s = 0.0
        self._closed = False
        self._told_ns = -_TELL_NS

    # On the request's path.

    def offer(self, rows: Rows) -> None:
        """These follow in the background; past the bound they are counted as lost. Never blocks for the log, never raises."""
        if not self._put(_Entry(rows, rows.count, None)):
            self._tell("rows are lost: too many wait for it")

    def append_durably(self, rows: Rows, done: Done) -> None:
        """`done` is told when they are safe, or that they are not: on the writer's thread or, where they are refused, on this."""
        if not self._put(_Entry(rows, rows.count, done)):
            if self._closed:
                done(Unavailable(f"log '{self._name}': takes no more records, the engine is shutting down"))
                return
            retry_s = max(self._pause_s, FEATURE_RETRY_S_MIN)
            done(
                ResourceExhausted(
                    f"log '{self._name}': {self._counts.waiting} rows of records wait for it, at most {RECORDS_WAITING_MAX} may",
                    retry_after_s=retry_s,
                )
            )

    def _put(self, entry: _Entry) -> bool:
        with self._changed:
            counts = self._counts
            if self._closed or counts.waiting + entry.count > RECORDS_WAITING_MAX:
                if entry.done is None:
                    counts.lost += entry.count
                else:
                    counts.failed += entry.count
                return False
            counts.waiting += entry.count
            (self._waiting if entry.done is None else self._durable).append(entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name=f"vireo-records-{self._name}", daemon=True)
                self._thread.start()
            elif self._is_worth_waking(entry):
                self._state = _State.AT_WORK
                self._changed.notify()
            return True

    def _is_worth_waking(self, entry: _Entry) -> bool:
        """A durable one, whose caller waits, is tried at once; a whole append needs no more rest."""
        if self._state is _State.RESTING:
            return entry.done is not None or self._counts.waiting >= _APPEND_ROWS_MAX
        return self._state is _State.ASLEEP or (self._state is _State.PAUSING and entry.done is not None)

    def statistics(self) -> RecordStatistics:
        """A copy of the counts."""
        with self._changed:
            return replace(self._counts)

    def close(self) -> None:
        """Takes no more; returns when what waits is appended or, tried once more, cannot be."""
        with self._changed:
            self._closed = True
            self._state = _State.AT_WORK
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    # On the writer's thread.

    def _loop(self) -> None:
        here.errand = True  # other rows wait while what follows a durable one is computed
        while turn := self._take():
            began_s = thread_time()
            try:
                self._append(turn)
            except Exception:  # a fault of ours must not end the writer
                log.exception("log %s: records could not be written", self._name)
            self._took_s = thread_time() - began_s
            del turn  # else it keeps the last requests alive

    def _take(self) -> list[_Entry]:
        """What waits, a bounded number of rows, soon after there is any and no pause is on; empty once closed and done."""
        with self._changed:
            if self._pause_s and not self._closed and not self._durable:
                self._wait(_State.PAUSING, self._pause_s)
            while not self._waiting and not self._durable and not self._closed:
                self._wait(_State.ASLEEP)
            if not self._durable and not self._closed:
                behind = self._counts.waiting >= _APPEND_ROWS_MAX
                rest_s = min(max((1 if behind else _RESTS) * self._took_s, _GATHER_S), _REST_S_MAX)
                self._wait(_State.RESTING, rest_s)  # nobody waits for them
            taken: list[_Entry] = []
            rows = 0
            for queue in (self._durable, self._waiting):
                while queue and (not taken or rows + queue[0].count <= _APPEND_ROWS_MAX):
                    taken.append(queue.popleft())
                    rows += taken[-1].count
            return taken

    def _wait(self, state: _State, seconds: float | None = None) -> None:
        """Until woken, at most so long; `_changed` is held."""
        self._state = state
        self._changed.wait_for(lambda: self._state is _State.AT_WORK, seconds)
        self._state = _State.AT_WORK

    def _append(self, turn: Sequence[_Entry]) -> None:
        try:
            self._push(self._name, self._batch(turn))
        except (InvalidArgument, TooLarge) as error:
            self._one_by_one(turn, error)
        except NotFound as error:  # the spec names it no more
            self._settle(turn, "lost", error)
            self._tell(f"rows are lost: {error.message}")
        except VireoError as error:
            self._try_again(turn, error)
        except Exception as error:
            log.exception("log %s: records could not be appended", self._name)
            self._settle(turn, "lost", Internal(f"log '{self._name}': internal error: {type(error).__name__}"))
        else:
            self._pause_s = 0.0
            self._settle(turn, "appended", None)

    def _batch(self, turn: Sequence[_Entry]) -> pa.RecordBatch:
        """Raises InvalidArgument where something of it does not fit the log."""
        import pyarrow as pa

        from engine.log.schema import conform

        schema = self._schema(self._name)
        made = []
        for maker, entries in groupby(turn, lambda each: each.rows.maker):
            try:
                found = maker.batch([each.rows for each in entries], schema)
            except VireoError:
                raise
            except Exception as error:  # values nobody thought of: those of one request
                raise InvalidArgument(f"{type(error).__name__}: {error}") from error
            made.append(conform(found, schema))
        return made[0] if len(made) == 1 else pa.concat_batches(made)

    def _try_again(self, turn: Sequence[_Entry], error: VireoError) -> None:
        """The log is away: who waits for it is told, the rest waits in its old place."""
        self._settle([each for each in turn if each.done is not None], "failed", error)
        rest = [each for each in turn if each.done is None]
        if self._closed:
            self._settle(rest, "lost", error)
            return
        with self._changed:
            self._waiting.extendleft(reversed(rest))
        self._pause_s = min(max(2 * self._pause_s, FEATURE_RETRY_S_MIN), FEATURE_RETRY_S_MAX)
        self._tell(f"records cannot be appended, {self._counts.waiting} rows wait: {error.message}")

    def _one_by_one(self, turn: Sequence[_Entry], error: VireoError) -> None:
        """Something of it does not fit the log: it alone is rejected."""
        if len(turn) == 1:
            (entry,) = turn
            singles = [] if entry.done is not None or entry.count == 1 else entry.rows.singles()
            if not singles:
                self._reject(turn, error)
                return
            parts: list[list[_Entry]] = [[_Entry(each, each.count, None)] for each in singles]
        else:
            middle = len(turn) // 2
            parts = [list(turn[:middle]), list(turn[middle:])]
        for part in parts:
            self._append(part)

    def _reject(self, turn: Sequence[_Entry], error: VireoError) -> None:
        self._settle(turn, "rejected", error)
        self._tell(f"rows of records do not fit it: {error.message}")

    def _settle(self, turn: Sequence[_Entry], as_what: str, error: VireoError | None) -> None:
        """These wait no more; whoever waits for them is told."""
        rows = sum(each.count for each in turn)
        with self._changed:
            self._counts.waiting -= rows
            setattr(self._counts, as_what, getattr(self._counts, as_what) + rows)
        for each in turn:
            if each.done is not None:
                try:
                    each.done(error)
                except Exception:
                    log.exception("log %s: a caller failed on hearing of its records", self._name)

    def _tell(self, text: str) -> None:
        now_ns = self._clock()
        if now_ns - self._told_ns >= _TELL_NS:
            self._told_ns = now_ns
            counts = self.statistics()
            log.error("log %s: %s (so far %d lost, %d rejected)", self._name, text, counts.lost, counts.rejected)
