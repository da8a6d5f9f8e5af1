"""Runs benchmarks from the command line: measure, print, write, and say by the exit code whether promises were kept."""

import signal
import sys
from collections.abc import Callable
from types import FrameType

from benchmarks.options import Options, parse_options
from benchmarks.report import Report, print_report, write_report

Run = Callable[[Options], Report]


class SkippedError(Exception):
    """A benchmark cannot run here for want of something that is not ours; the message says of what."""


def keeps_promises(run: Run, options: Options) -> bool:
    """Run one benchmark, write and print its report; whether no promise was broken. One that is skipped breaks none. SIGTERM ends
    what it has started too."""
    before = signal.signal(signal.SIGTERM, _ended)
    try:
        report = run(options)
    except SkippedError as reason:
        print(f"== {reason}\n")
        return True
    finally:
        signal.signal(signal.SIGTERM, before)
    print_report(report, write_report(report, options.out))
    return not any(one.kept is False for one in report.judgements)


def run_command(run: Run, about: str | None) -> int:
    """One benchmark with the options of the command line; 1 when a promise is broken."""
    return int(not keeps_promises(run, parse_options(about)))


def _ended(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)  # by way of every `with` that holds a server
