"""Whether a server under every kind of caller, for long, keeps its memory, its promises and nothing else.

Measured: `vireo serve` on core 0 under callers on core 1 (`soak.load`): unary gRPC with payloads from 256 B to 4 MB,
streams whole, dropped and half closed, health watches, deadlines shorter than the work, cancellations, channels closed
in mid-call, HTTP/1.1 with JSON and binary tensors, HTTP/2, sockets that say half of something and are reset, a model
unloaded and loaded over and over, and readers of `/metrics`. Data: the fraud model and Python functions; every answer
is compared with what it must be. Files, threads and gauges are read every ten seconds (in short runs every sixtieth of
the time), memory ten times a second. The first fifth is warm-up.
Promise: afterwards resident memory is flat within 2% (medians of the first and the last quarter, told with the standard
error of their difference); no answer is wrong and no error unexpected; when the clients have left every gauge is zero
and no more files are open than before.

    python -m benchmarks.bench_soak --out .cache/bench                       # 20 minutes, native transport
    python -m benchmarks.bench_soak --out .cache/bench --minutes 120
    python -m benchmarks.bench_soak --out .cache/bench --transports grpcio
    python -m benchmarks.bench_soak --out .cache/bench --quick               # one minute
"""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from benchmarks.command import run_command
from benchmarks.fraud_inputs import fraud_inputs
from benchmarks.harness import LOAD_CORE, ServerError, python_module
from benchmarks.options import Options
from benchmarks.plots import new_figure, svg_of
from benchmarks.report import Report
from benchmarks.soak.load import LEAVE_S_MAX, SoakOrder
from benchmarks.soak.outcome import LoadOutcome
from benchmarks.soak.sample import Memory, Sample, memory_of, state_of, status_of, take_sample
from benchmarks.soak.served import Served, serve
from benchmarks.soak.verdict import MIB, WARMUP_SHARE, End, after_warmup, judgements_of, paused_s, trend_of
from benchmarks.table import Cell, Table

MINUTES, QUICK_MINUTES = 20.0, 1.0
SAMPLE_S_MAX = 10.0
SAMPLES_MIN = 60
READING_S = 0.1
"""Between two readings of memory: it wavers by 5% with the requests in flight, and a second later by chance anew."""

SETTLE_S_MAX = 10.0
"""How long the server may take to notice that everybody has left."""

SETTLE_S = 0.25
PREFIX = "vireo_"
COMPLAINTS = ("ERROR", "CRITICAL", "Traceback", "never retrieved", "never awaited", "Exception ignored")


def run(options: Options) -> Report:
    """Soak and report."""
    inputs = fraud_inputs(options.inputs)
    minutes = options.minutes or (QUICK_MINUTES if options.quick else MINUTES)
    transport = (options.transports or ("native",))[0]
    out = options.out / "soak"
    out.mkdir(parents=True, exist_ok=True)
    with serve(inputs, out, transport) as served:
        files_before = take_sample(served.process.pid, served.http_port, time.monotonic()).files
        order = SoakOrder(
            served.grpc_port, served.http_port, transport, minutes * 60, options.seed, str(options.inputs), LOAD_CORE
        )
        samples, load = soak(served, order)
        rest = settled(lambda: take_sample(served.process.pid, served.http_port, time.monotonic() - minutes * 60))
        exit_code = served.process.stop()
    end = End(rest, files_before, complaints_of(served.log.read_text(errors="replace")), exit_code)
    return report_of(options, order, samples, load, end)


def soak(served: Served, order: SoakOrder) -> tuple[list[Sample], LoadOutcome]:
    """Lets the callers loose and watches the server meanwhile. Raises ServerError where either breaks down."""
    command = python_module("benchmarks.soak.load", msgspec.json.encode(order).decode())
    samples: list[Sample] = []
    memory: list[Memory] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE) as callers:
        try:
            began_s, waited_s = time.monotonic(), 0.0  # not the clock: it goes on where all of us are held up
            while callers.poll() is None:
                if waited_s > order.seconds + 2 * LEAVE_S_MAX:
                    raise ServerError(f"the callers do not come to an end: they are {state_of(callers.pid)}")
                samples.append(take_sample(served.process.pid, served.http_port, began_s, memory))
                memory = memory_meanwhile(callers, served.process.pid, sample_s(order.seconds))
                waited_s += sample_s(order.seconds)
            assert callers.stdout is not None
            told = callers.stdout.read()
        except OSError as error:
            raise ServerError(f"the server is gone: {error}: {served.process.last_words()}") from error
        finally:
            callers.kill()
    if not told:
        raise ServerError(f"the callers broke down with exit code {callers.returncode}")
    return samples, msgspec.json.decode(told, type=LoadOutcome)


def memory_meanwhile(callers: subprocess.Popen[bytes], pid: int, seconds: float) -> list[Memory]:
    """The server's memory, read often while `seconds` pass or the callers come to an end."""
    readings = []
    for _ in range(round(seconds / READING_S)):
        with suppress(subprocess.TimeoutExpired):
            callers.wait(READING_S)
            break
        readings.append(memory_of(status_of(pid)))
    return readings


def sample_s(seconds: float) -> float:
    """Between two readings."""
    return min(SAMPLE_S_MAX, seconds / SAMPLES_MIN)


def settled(read: Callable[[], Sample]) -> Sample:
    """The first reading whose gauges are all zero, or the last within SETTLE_S_MAX."""
    give_up_s = time.monotonic() + SETTLE_S_MAX
    while any((sample := read()).gauges.values()) and time.monotonic() < give_up_s:
        time.sleep(SETTLE_S)
    return sample


def complaints_of(log: str) -> list[str]:
    """The lines of a server's log that should not be there."""
    return [line for line in log.splitlines() if any(each in line for each in COMPLAINTS)]


def report_of(options: Options, order: SoakOrder, samples: Sequence[Sample], load: LoadOutcome, end: End) -> Report:
    """Tables, plots and judgements. Pure but for the machine's description."""
    trend = trend_of(after_warmup(samples, order.seconds))
    judgements = judgements_of(trend, load, end, paused_s(samples))
    return Report(
        name="soak" if order.transport == "native" else f"soak-{order.transport}",
        about=f"{order.seconds / 60:g} minutes of callers of every kind, transport {order.transport}, one server core",
        seed=options.seed,
        judgements=judgements,
        tables=[outcome_table(load), sample_table(samples, end)],
        figures=[memory_plot(samples, order.seconds), gauges_plot(samples)],
        data={"order": order, "trend": trend, "samples": samples, "load": load, "end": end},
    )


def outcome_table(load: LoadOutcome) -> Table:
    """What came of the callers' acts."""
    rows: list[list[Cell]] = [
        [each.caller, each.kind, each.count, "yes" if each.fine else "NO", "; ".join(each.examples)]
        for each in load.rows
    ]
    told = "An act is one call, a stream, a watch, or one visit of a socket that vanishes."
    return Table("What came of it", told, ["caller", "outcome", "acts", "expected", "for example"], rows)


def sample_table(samples: Sequence[Sample], end: End) -> Table:
    """The first, the middle and the last readings, and the one at rest."""
    chosen = {
        "start": samples[0], "a quarter": samples[len(samples) // 4], "half": samples[len(samples) // 2],
        "end": samples[-1], "at rest": end.rest,
    }  # fmt: skip
    names = list(end.rest.gauges)
    rows: list[list[Cell]] = [
        [name, each.at_s, each.memory.resident / MIB, each.memory.anonymous / MIB, each.files, each.threads,
         *(each.gauges.get(gauge) for gauge in names)]
        for name, each in chosen.items()
    ]  # fmt: skip
    columns = ["when", "second", "resident MiB", "anonymous MiB", "files", "threads"]
    columns += [each.removeprefix(PREFIX) for each in names]
    return Table("The server", "At rest: every client has left.", columns, rows)


def memory_plot(samples: Sequence[Sample], seconds: float) -> str:
    """Memory over time."""
    figure, axes = new_figure("Memory", "minutes", "MiB")
    minutes = [each.at_s / 60 for each in samples]
    axes.plot(minutes, [each.memory.resident / MIB for each in samples], label="resident")
    axes.plot(minutes, [each.memory.anonymous / MIB for each in samples], label="anonymous")
    axes.axvline(WARMUP_SHARE * seconds / 60, color="gray", linestyle="--", label="end of the warm-up")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)
    return svg_of(figure)


def gauges_plot(samples: Sequence[Sample]) -> str:
    """What is open over time."""
    figure, axes = new_figure("Open", "minutes", "")
    minutes = [each.at_s / 60 for each in samples]
    for name in samples[0].gauges:
        if name != "vireo_message_bytes":
            axes.plot(minutes, [each.gauges.get(name, 0) for each in samples], label=name.removeprefix(PREFIX))
    axes.plot(minutes, [each.files for each in samples], label="files")
    axes.plot(minutes, [each.threads for each in samples], label="threads")
    axes.legend(fontsize=8)
    return svg_of(figure)


if __name__ == "__main__":
    sys.exit(run_command(run, __doc__))
