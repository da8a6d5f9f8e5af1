"""One server of a fleet: its connection, made anew when it ends, and whether the model answers. Owned by the loop's thread."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from engine.clock import Clock
from engine.errors import Unavailable, VireoError, quoted
from engine.limits import TRITON_PROBE_S, TRITON_PROBE_S_MAX, TRITON_RECONNECT_S, TRITON_STATISTICS_S
from engine.triton.call import Attempt
from engine.triton.connection import Connection, Exchange, authority, connect, connection_on, ends_here
from engine.triton.hpack import call_headers
from engine.triton.loop import Loop
from engine.triton.messages import SERVICE, ask, counts_of, error_of
from engine.triton.policy import Standing
from engine.triton.regions import Regions
from engine.triton.statistics import ServerCounts

_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Access:
    """How the servers are reached, and what is asked of them."""

    model: str
    version: int | None = None
    tls: ssl.SSLContext | None = None
    metadata: Mapping[str, str] | None = None
    shares_memory: bool = False


class _Blocks(dict[str, bytes]):
    """The header block of a call of each method of a server, without its timeout."""

    def __init__(self, address: str, access: Access) -> None:
        super().__init__()
        self._address, self._access = address, access

    def __missing__(self, method: str) -> bytes:
        access = self._access
        made = self[method] = call_headers(
            SERVICE + method, authority(self._address), tls=access.tls is not None, metadata=access.metadata or {}
        )
        return made


class Question:
    """A call on whose end a thread other than the loop's waits."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._exchange: Exchange | None = None

    def heard(self, exchange: Exchange) -> None:
        """It has ended, or its connection."""
        self._exchange = exchange
        self._ended.set()

    def answer(self) -> bytes:
        """The message that answers; waits for TRITON_PROBE_S_MAX. Raises what the server says, or Unavailable."""
        self._ended.wait(TRITON_PROBE_S_MAX)
        exchange = self._exchange
        if exchange is None or not exchange.ended or exchange.reset is not None:
            raise Unavailable("no answer")
        if not exchange.ok:
            raise error_of(exchange.headers)
        try:
            return exchange.message()
        except ValueError as error:
            raise Unavailable(f"no answer that can be read: {error}") from error


class Replica:
    """`standing` is read by any thread. `changed` is called when what is known of the model there is another."""

    def __init__(self, address: str, access: Access, clock: Clock, changed: Callable[[], None]) -> None:
        self.address, self._access, self._clock, self._changed = address, access, clock, changed
        self.standing = Standing()
        self.connection: Connection | None = None
        self.problem = "not yet connected"
        self.refused = False
        """It answers, and not for this model."""
        self.differs = False
        """It answers, and has another model than the one that is served."""
        self.metadata = b""
        """The answer to the last probe."""
        self.judge: Callable[[bytes], str | None] = lambda _: None
        """Why a model of such metadata is not the one that is served; None where it is."""
        self.blocks = _Blocks(address, access)
        self._connecting = False
        self._due_ns = 0
        self.counts: ServerCounts | None = None
        """What it said last that it had counted."""
        self._counts_due_ns = self._shared_before = 0
        self._probe: Exchange | None = None
        self._probed_ns = self.heard_ns = 0

    def attend(self, loop: Loop, now_ns: int) -> bool:
        """Connects, or asks whether the model answers, where that is due. False where the connection is of no use any more."""
        if self.connection is None:
            if now_ns >= self._due_ns and not self._connecting:
                self._connecting = True
                threading.Thread(target=self._connect, args=(loop,), name="vireo-triton-connect", daemon=True).start()
            return True
        if self._probe is not None:
            silent_ns = now_ns - max(self._probed_ns, self.heard_ns)
            return silent_ns < TRITON_PROBE_S_MAX * _S
        if now_ns >= self._due_ns:
            self._ask(self.connection, now_ns)
        return True

    def _ask(self, connection: Connection, now_ns: int) -> None:
        self._due_ns = now_ns + int(TRITON_PROBE_S * _S)
        if not connection.has_room:
            return
        self._probed_ns = now_ns
        body = ask("ModelMetadata", self._access.model, self._access.version)
        self._probe = connection.send(self.blocks["ModelMetadata"], body, self)
        connection.flush()

    def _connect(self, loop: Loop) -> None:
        try:
            sock = connect(self.address, self._access.tls)
            shares_memory = self._access.shares_memory and ends_here(sock)
        except OSError as error:
            loop.post(partial(self._not_connected, f"cannot be reached: {error}"))
            return
        made = connection_on(sock, lambda: loop.post(lambda: loop.watch_writing(made)))
        if shares_memory:
            made.regions = Regions(self.address, partial(self._answer, made), self._clock)
        loop.post(partial(self._connected, loop, made))

    def _not_connected(self, problem: str) -> None:
        self._connecting = False
        self._due_ns = self._clock() + int(TRITON_RECONNECT_S * _S)
        self._set(False, problem)

    def _connected(self, loop: Loop, made: Connection) -> None:
        self._connecting = False
        if loop.closed:
            made.close()
            return
        self.connection, self.heard_ns = made, self._clock()
        loop.add(made)
        self._ask(made, self.heard_ns)

    def _answer(self, connection: Connection, method: str, body: bytes) -> bytes:
        question = Question()
        connection.send(self.blocks[method], body, question)
        connection.flush()
        return question.answer()

    @property
    def shared_requests(self) -> int:
        """How many had their tensors in memory that it shares."""
        connection = self.connection
        regions = None if connection is None else connection.regions
        return self._shared_before + (0 if regions is None else regions.taken)

    def share_no_more(self) -> None:
        """Has the server let go of what memory it shares; waits for that, on another thread than the loop's."""
        connection = self.connection
        if connection is not None and connection.regions is not None:
            connection.regions.close(unregister=True)

    def heard(self, exchange: Exchange) -> None:
        """The answer to a question of its own is here."""
        if exchange is self._probe:
            self._probe = None
            self._probed(exchange)
        elif exchange.ok:  # some servers keep no statistics
            try:
                self.counts = counts_of(exchange.message())
            except ValueError:
                self.counts = None

    def _ask_counts(self, connection: Connection) -> None:
        now_ns = self._clock()
        if now_ns >= self._counts_due_ns and connection.has_room:
            self._counts_due_ns = now_ns + int(TRITON_STATISTICS_S * _S)
            body = ask("ModelStatistics", self._access.model, self._access.version)
            connection.send(self.blocks["ModelStatistics"], body, self)
            connection.flush()

    def _probed(self, exchange: Exchange) -> None:
        if not exchange.ok:
            self.differs, self.refused = False, True
            self._set(False, _reason(exchange))
            return
        try:
            message = exchange.message()
            problem = None
            if message != self.metadata or not self.standing.ready:
                problem = self.judge(message)
                self.differs = problem is not None
        except (ValueError, VireoError) as error:
            problem = f"answers what cannot be read: {error}"
        else:
            self.metadata = message
        self._set(problem is None, problem or "")
        if self.connection is not None:
            self._ask_counts(self.connection)

    def lost(self, loop: Loop, problem: str) -> list[Exchange]:
        """Gives the connection up; the calls that are left without an answer."""
        connection = self.connection
        if connection is None:
            return []
        loop.remove(connection)
        self.connection = self._probe = None
        self._counts_due_ns = 0
        self._due_ns = self._clock() + int(TRITON_RECONNECT_S * _S)
        self._set(False, problem)
        left = connection.close()
        self.standing.outstanding = 0
        if connection.regions is not None:
            self._shared_before += connection.regions.taken
            connection.regions.close(unregister=False)
        for each in left:
            if isinstance(each.owner, Question):
                each.owner.heard(each)
        return [each for each in left if isinstance(each.owner, Attempt)]

    def _set(self, ready: bool, problem: str) -> None:
        changed = ready != self.standing.ready or problem != self.problem
        self.standing.ready, self.problem = ready, problem
        if changed:
            self._changed()


def _reason(exchange: Exchange) -> str:
    error = error_of(exchange.headers) if exchange.reset is None else None
    return f"reset the call ({exchange.reset})" if error is None else error.message


def unreachable(replicas: list[Replica]) -> str:
    """Why none of them answers."""
    return "; ".join(f"{quoted(each.address)} {each.problem or 'is ejected'}" for each in replicas)
