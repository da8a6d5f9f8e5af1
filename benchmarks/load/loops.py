"""Who sends when: by the schedule whatever the server does (open loop), or upon each answer (closed loop)."""

import time
from collections.abc import Callable

from benchmarks.load.outcome import Usage
from benchmarks.load.pump import Arrival, Pump
from benchmarks.load.samples import Recorder

SENDS_PER_TURN = 64
Clock = Callable[[], int]


def usage(pump: Pump, clock: Clock) -> Usage:
    """The generator's CPU time so far, and how much of it was idle spinning."""
    return Usage(clock(), time.process_time_ns(), pump.spun_ns)


class Loop:
    """A pump, a recorder and a clock; the two ways to drive them. Owned by one thread."""

    def __init__(self, pump: Pump, recorder: Recorder, *, spin_ns: int, clock: Clock = time.monotonic_ns) -> None:
        self.pump, self.recorder = pump, recorder
        self._spin_ns, self._clock = spin_ns, clock

    def offer(self, first: int, last: int) -> None:
        """Open loop: send the requests [first, last) when each is due, and take answers meanwhile."""
        tag = first
        while tag < last:
            tag = self._send_due(tag, min(last, tag + SENDS_PER_TURN))
            if not self._record(self.pump.turn()) and tag < last:
                self.pump.wait(until_ns=self.recorder.due_ns[tag], spin_ns=self._spin_ns)

    def _send_due(self, tag: int, last: int) -> int:
        """Send what is due, at most up to `last`; the first tag not sent."""
        due, first, now_ns = self.recorder.due_ns, tag, self._clock()
        while tag < last and due[tag] <= now_ns:
            refused = self.pump.submit(tag)
            if refused is not None:
                self._record([(now_ns, [refused])])
            tag += 1
        if tag > first:
            self.pump.flush()
            self.recorder.sent_ns[first:tag] = [self._clock()] * (tag - first)
        return tag

    def call(self, until_ns: int, callers: int) -> None:
        """Closed loop: start `callers` more requests, then one upon each answer, until `until_ns`.

        The next send is due with any answer, so it is awake throughout, or never: waking up takes tens of microseconds.
        """
        for _ in range(callers):
            self._call_again()
        self.pump.flush()
        while self._clock() < until_ns:
            arrivals = self.pump.turn()
            for _ in range(self._record(arrivals)):
                self._call_again()
            self.pump.flush()
            if not arrivals:
                self.pump.wait(until_ns=until_ns, spin_ns=until_ns if self._spin_ns else 0)

    def _call_again(self) -> None:
        refused = self.pump.submit(self.recorder.add(self._clock()))
        if refused is not None:
            self._record([(self._clock(), [refused])])

    def drain(self, until_ns: int) -> None:
        """Take answers until none is missing or the clock shows `until_ns`."""
        while self.pump.in_flight and self._clock() < until_ns:
            if not self._record(self.pump.turn()):
                self.pump.wait(until_ns=until_ns, spin_ns=0)

    def tend(self, until_ns: int) -> None:
        """Tend the connections until the clock shows `until_ns`; no request is in flight yet."""
        while self._clock() < until_ns:
            self.pump.turn()
            self.pump.wait(until_ns=until_ns, spin_ns=0)

    def _record(self, arrivals: list[Arrival]) -> int:
        """Note the answers; how many there were."""
        done, statuses, count = self.recorder.done_ns, self.recorder.status, 0
        for at_ns, answers in arrivals:
            for tag, status in answers:
                done[tag] = at_ns
                statuses[tag] = status
            count += len(answers)
        return count

    def usage(self) -> Usage:
        """See `usage`."""
        return usage(self.pump, self._clock)
