"""Calls to a model that lives on one or several servers: which is asked, who is asked next when it fails or is slow, and the end.

A call is begun on its caller's thread; everything after happens on the event loop of the engine's home. Decisions are `policy`'s.
"""

from __future__ import annotations

import heapq
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from random import Random

from engine.clock import NEVER_NS, Clock
from engine.errors import Cancelled, DeadlineExceeded, Internal, NotFound, TooLarge, Unavailable, VireoError
from engine.home import Home
from engine.limits import (
    MESSAGE_BYTES_MAX,
    TRITON_ATTEMPTS_MAX,
    TRITON_HEDGE_BURST,
    TRITON_HEDGE_SHARE,
    TRITON_IDLE_S,
    TRITON_PROBE_S,
    TRITON_RETRY_BURST,
    TRITON_RETRY_SHARE,
    TRITON_TICK_S,
)
from engine.retry_budget import RetryBudget
from engine.triton.call import Attempt, Call, Done, messages_in, nobody
from engine.triton.connection import Connection, Exchange
from engine.triton.hpack import timeout_header
from engine.triton.http2 import TOO_LARGE
from engine.triton.loop import Loop
from engine.triton.messages import error_of, forgot_region
from engine.triton.policy import (
    HedgeDelay,
    choose,
    failed,
    may_hedge,
    may_retry,
    slow,
    succeeded,
)
from engine.triton.replica import Access, Question, Replica, unreachable
from engine.triton.shared_request import SharedRequest

log = logging.getLogger("vireo.triton")


class Fleet:
    """`begin`, `flush` and `cancel` from any thread. `changed` is called on the loop's thread when a server comes or goes."""

    def __init__(
        self,
        servers: Sequence[str],
        access: Access,
        *,
        home: Home,
        clock: Clock,
        idempotent: bool = True,
        hedge_ns: int | None = None,
        seed: int = 0,
    ) -> None:
        self.changed: Callable[[], None] = lambda: None
        self.clock, self._idempotent = clock, idempotent
        self._loop = Loop(home, self)
        self.replicas = [Replica(each, access, clock, self._on_change) for each in servers]
        self._standings = [each.standing for each in self.replicas]
        self._draw = Random(seed).randrange
        self._hedge = None if hedge_ns is None or len(servers) < 2 or not idempotent else HedgeDelay(hedge_ns)
        self._hedge_budget = RetryBudget(TRITON_HEDGE_SHARE, TRITON_HEDGE_BURST)
        self._retry_budget = RetryBudget(TRITON_RETRY_SHARE, TRITON_RETRY_BURST)
        self._lock = threading.Lock()
        self._dirty: set[Connection] = set()
        self._to_hedge: deque[Call] = deque()
        self._deadlines: list[tuple[int, int, Call]] = []
        self._numbers = count()
        self._begun_ns = 0
        self._wakes_ns = NEVER_NS
        """When deadlines and hedges are looked at next; `_sooner`: one has come that is due before."""
        self._sooner = False
        self._uncounted = 0
        """Calls begun that the budgets have not heard of."""

    def start(self) -> None:
        """Connects; returns at once."""
        self._loop.start()

    def judge_by(self, judge: Callable[[bytes], str | None]) -> None:
        """From now on a server is asked only where `judge` finds nothing wrong with its model's metadata."""
        for each in self.replicas:
            each.judge = judge

    @property
    def closed(self) -> bool:
        """Whether its connections end."""
        return self._loop.closed

    def _on_change(self) -> None:
        self.changed()

    # On the callers' threads.

    def begin(
        self,
        method: str,
        body: bytes | SharedRequest,
        deadline_ns: int,
        done: Done,
        part: Callable[[bytes], None] | None = None,
    ) -> Call:
        """Lets a call go out with the next `flush`; `done` is told once, on the loop's thread. Raises Unavailable."""
        now_ns = self._begun_ns = self.clock()
        call = Call(self, method, body, deadline_ns, now_ns, done, part)
        while True:
            index = choose(self._standings, now_ns, self._draw, call.tried)
            if index is None or index in call.tried:
                raise Unavailable(f"none of its Triton servers answers: {unreachable(self.replicas)}")
            if self._send(call, index, now_ns):
                break
        if deadline_ns != NEVER_NS:
            with self._lock:
                heapq.heappush(self._deadlines, (deadline_ns, next(self._numbers), call))
        due_ns = deadline_ns
        if self._hedge is not None:
            self._to_hedge.append(call)
            due_ns = min(due_ns, now_ns + self._hedge.after_ns)
        if due_ns < self._wakes_ns:
            self._sooner = True
        self._uncounted += 1
        return call

    def _send(self, call: Call, index: int, now_ns: int) -> bool:
        replica = self.replicas[index]
        connection = replica.connection
        call.tried.append(index)
        if connection is None:
            return False
        block = replica.blocks[call.method]
        if call.deadline_ns != NEVER_NS:
            block += timeout_header(call.deadline_ns - now_ns)
        attempt = Attempt(call, index, connection, now_ns)
        body = call.body
        if not isinstance(body, bytes):
            if connection.regions is not None and body.shares:
                attempt.region = connection.regions.take(body.places.size)
            body = body.body(attempt.region)
        call.open.append(attempt)
        call.attempts += 1
        try:
            attempt.exchange = connection.send(block, body, attempt, live=call.part is not None)
        except Unavailable:
            call.open.remove(attempt)
            attempt.let_go(done=True)
            return False
        replica.standing.outstanding = connection.open
        self._dirty.add(connection)
        return True

    def _take(self, budget: RetryBudget) -> bool:
        """Whether one more call may be sent, for a retry or as a hedge."""
        count, self._uncounted = self._uncounted, 0
        self._hedge_budget.sent(count)
        self._retry_budget.sent(count)
        return budget.take()

    def flush(self) -> None:
        """Sends what was begun."""
        dirty = self._dirty
        while dirty:
            try:
                connection = dirty.pop()
            except KeyError:  # another thread took the last one
                break
            connection.flush()
        if self._sooner:
            self._sooner = False
            self._loop.wake()

    def cancel(self, call: Call) -> None:
        """Nobody waits for it any more: the servers are told, and `done` hears Cancelled unless it heard before."""
        if not call.ended:
            self._loop.post(lambda: self._resolve(call, Cancelled("the caller is gone")))

    def close(self) -> None:
        """Ends the connections; calls on the way are told Unavailable."""
        if not self._loop.here:  # where what the servers answer is heard
            for each in self.replicas:
                each.share_no_more()
        self._loop.close(self._end)

    def _end(self) -> None:
        for replica in self.replicas:
            for exchange in replica.lost(self._loop, "the model is being unloaded"):
                attempt = exchange.owner
                if isinstance(attempt, Attempt) and not attempt.call.ended:
                    self._resolve(attempt.call, Unavailable("the model is being unloaded"))

    # On the loop's thread.

    def readable(self, connection: Connection) -> None:
        """See `loop.Watcher`."""
        for replica in self.replicas:
            if replica.connection is connection:
                break
        else:  # lost meanwhile
            return
        try:
            self._read(replica, connection)
        except Exception:
            log.exception("waiting for Triton servers goes on after a fault")

    def _read(self, replica: Replica, connection: Connection) -> None:
        now_ns = replica.heard_ns = self.clock()
        more = True
        while more:
            try:
                heard = connection.read()
            except (OSError, ValueError) as error:
                self._lost(replica, f"broke the connection: {error}")
                return
            if heard is None:
                self._lost(replica, "closed the connection")
                return
            replica.standing.outstanding = connection.open
            for exchange in heard:
                self._heard(exchange, now_ns)
            more = connection.tls and connection.has_more()
        if connection.closing and not connection.open:
            self._lost(replica, "is closing its connections")
        if self._dirty:
            self.flush()

    def _lost(self, replica: Replica, problem: str) -> None:
        for exchange in replica.lost(self._loop, problem):
            if isinstance(exchange.owner, Attempt):
                self._failed(exchange.owner, Unavailable(f"Triton server {replica.address} {problem}"), exchange)
        self.flush()

    def _heard(self, exchange: Exchange, now_ns: int) -> None:
        attempt = exchange.owner
        if not isinstance(attempt, Attempt):
            assert isinstance(attempt, Replica | Question)
            attempt.heard(exchange)
            return
        call = attempt.call
        if call.part is not None and exchange.waits:
            self._told(attempt, exchange)
        if not exchange.ended:
            return
        attempt.exchange = None  # no cycle may keep the answer until the garbage collector comes
        if call.ended:
            pass
        elif exchange.ok:
            self._answered(attempt, now_ns)
            self._resolve(call, b"" if call.part is not None else _message_of(attempt, exchange))
        else:
            self._refused(attempt, exchange, now_ns)
        if attempt.region is not None:
            attempt.let_go(done=_is_through(exchange))

    def _told(self, attempt: Attempt, exchange: Exchange) -> None:
        """Messages of a stream."""
        call = attempt.call
        if call.ended or call.part is None:
            return
        try:
            messages, call.rest = messages_in(call.rest + attempt.connection.take(exchange))
        except ValueError as error:
            self._resolve(call, Internal(f"Triton: {error}"))
            return
        for each in messages:
            call.began = True
            call.part(each)

    def _refused(self, attempt: Attempt, exchange: Exchange, now_ns: int) -> None:
        error = error_of(exchange.headers)
        if exchange.reset == TOO_LARGE:
            error = TooLarge(f"Triton answers more than {MESSAGE_BYTES_MAX} bytes")
        elif exchange.reset is not None:
            error = Unavailable(f"Triton reset the call with code {exchange.reset}")
        elif attempt.region is not None and forgot_region(error) and self._sent_whole(attempt, now_ns):
            return
        self._failed(attempt, error, exchange)

    def _sent_whole(self, attempt: Attempt, now_ns: int) -> bool:
        """The server has no such region any more and computed nothing: it is sent what needs none."""
        call, regions = attempt.call, attempt.connection.regions
        assert regions is not None
        assert isinstance(call.body, SharedRequest)
        attempt.let_go(done=False)
        regions.forgotten()
        call.body.shares = False
        if not self._send(call, attempt.replica, now_ns):
            return False
        attempt.drop()
        return True

    def _answered(self, attempt: Attempt, now_ns: int) -> None:
        attempt.call.open.remove(attempt)
        took_ns = now_ns - attempt.sent_ns
        succeeded(self._standings[attempt.replica], took_ns, now_ns)
        if self._hedge is not None:
            self._hedge.observe(took_ns)

    def _failed(self, attempt: Attempt, error: VireoError, exchange: Exchange) -> None:
        """A server failed on a call, or said what is wrong with it."""
        call, now_ns = attempt.call, self.clock()
        if isinstance(error, NotFound):  # it had the model when it was asked for it last
            error = Unavailable(error.message)
        if not isinstance(error, Unavailable):  # an answer
            self._answered(attempt, now_ns)
            self._resolve(call, error)
            return
        attempt.drop()
        failed(self._standings[attempt.replica], self._standings, now_ns)
        if call.ended or call.open:  # another server may still answer
            return
        again = may_retry(
            attempts=call.attempts,
            attempts_max=TRITON_ATTEMPTS_MAX,
            idempotent=self._idempotent and not call.began,
            unprocessed=exchange.unprocessed,
            remaining_ns=call.deadline_ns - now_ns,
        )
        if again and self._take(self._retry_budget):
            index = choose(self._standings, now_ns, self._draw, call.tried)
            if index is not None and self._send(call, index, now_ns):
                return
        self._resolve(call, error)

    def _resolve(self, call: Call, outcome: bytes | VireoError) -> None:
        """Ends a call once; whoever else was asked is told that nobody waits."""
        if call.ended:
            return
        call.ended = True
        if call.open:
            self._give_up(call.open.copy())
        done = call.done
        call.body, call.done = b"", nobody  # deadlines and hedges look at it once more, which may be late
        done(outcome)

    def _give_up(self, attempts: list[Attempt]) -> None:
        now_ns = self.clock()
        for attempt in attempts:
            attempt.drop()
            slow(self._standings[attempt.replica], now_ns - attempt.sent_ns)
            exchange, attempt.exchange = attempt.exchange, None
            if exchange is not None:
                attempt.connection.reset(exchange)
                self._standings[attempt.replica].outstanding = attempt.connection.open
            attempt.let_go(done=False)

    def tick(self) -> float:
        """See `loop.Watcher`."""
        now_ns = self.clock()
        for replica in self.replicas:
            if not replica.attend(self._loop, now_ns):
                self._lost(replica, "does not answer")
        self._expire(now_ns)
        if self._hedge is not None:
            self._send_hedges(self._hedge.after_ns, now_ns)
        self.flush()
        # Whoever begins a call after this finds that it is due before, or is not
        self._sooner, self._wakes_ns = False, now_ns + int(TRITON_PROBE_S / 2 * 1e9)
        if self._deadlines:
            self._wakes_ns = min(self._wakes_ns, self._deadlines[0][0])
        if self._hedge is not None:
            self._wakes_ns = min(self._wakes_ns, self._next_hedge_ns(self._hedge.after_ns, now_ns))
        return max(TRITON_TICK_S, (self._wakes_ns - now_ns) / 1e9)

    def _next_hedge_ns(self, after_ns: int, now_ns: int) -> int:
        """When the next may be due: of calls that follow soon none is before, so that they need not wake the loop."""
        try:
            return self._to_hedge[0].sent_ns + after_ns
        except IndexError:
            return now_ns + after_ns if now_ns - self._begun_ns < TRITON_IDLE_S * 1e9 else NEVER_NS

    @property
    def _open(self) -> int:
        """Calls on the way."""
        return sum(each.connection.open for each in self.replicas if each.connection is not None)

    def _expire(self, now_ns: int) -> None:
        heap = self._deadlines
        while heap and (heap[0][2].ended or heap[0][0] <= now_ns):
            with self._lock:
                call = heapq.heappop(heap)[2]
            if not call.ended:
                late_ms = (now_ns - call.sent_ns) / 1e6
                self._resolve(call, DeadlineExceeded(f"deadline passed: Triton has not answered for {late_ms:.1f} ms"))
        if len(heap) > 2 * self._open + 1_024:
            with self._lock:
                heap[:] = [each for each in heap if not each[2].ended]
                heapq.heapify(heap)

    def _send_hedges(self, after_ns: int, now_ns: int) -> None:
        waiting = self._to_hedge
        while waiting and (waiting[0].ended or now_ns - waiting[0].sent_ns >= after_ns):
            call = waiting.popleft()
            if call.ended or call.part is not None or not call.open:
                continue
            index = choose(self._standings, now_ns, self._draw, call.tried)
            if index is None or index in call.tried:
                continue
            may = may_hedge(
                attempts=call.attempts,
                attempts_max=TRITON_ATTEMPTS_MAX,
                idempotent=self._idempotent,
                remaining_ns=call.deadline_ns - now_ns,
                latency_ns=self._standings[index].latency_ns,
            )
            if may and self._take(self._hedge_budget):
                self._send(call, index, now_ns)


def _message_of(attempt: Attempt, exchange: Exchange) -> bytes | VireoError:
    try:
        message = exchange.message()
    except ValueError as error:
        return Internal(f"Triton answered no message that can be read: {error}")
    body = attempt.call.body
    if attempt.region is not None and isinstance(body, SharedRequest):
        body.region = attempt.region
    return message


def _is_through(exchange: Exchange) -> bool:
    """Whether a server is surely done with the memory of a call: it answered, or told what is wrong with the inputs. One whose
    deadline has passed there may still be computed."""
    return exchange.unprocessed or (exchange.reset is None and exchange.headers.get("grpc-status") in ("0", "3"))
