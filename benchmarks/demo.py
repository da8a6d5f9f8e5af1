"""From nothing to a fraud decision that is served: `python -m benchmarks.demo --cache .cache`, which `make demo` runs.

Trains the models (once), starts `vireo serve` with the whole graph, feeds it nine weeks of transactions and labels, scores the
next ones with unmodified Triton clients over gRPC and HTTP, holds the answers against history and the models' own libraries,
shows decisions with reasons, an alert, and where the time of one request went, and measures latency against the target. Exit
code 1 when answers disagree, half of the alerts are late, the target is missed or the server does not end well.
"""

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.bench_fraud import held, order_of
from benchmarks.fraud_report import TARGET_MS
from benchmarks.graphs.running import serve
from benchmarks.graphs.whole import CHECKED, Past, Stream, files_beside, whole_spec
from benchmarks.harness import Measured, measure
from benchmarks.load.order import LoadOrder, Protocol
from benchmarks.load.verdict import Verdict
from benchmarks.machine import ROOT
from benchmarks.options import Options
from benchmarks.servers import Server
from benchmarks.sustained import COLUMNS, load_row
from benchmarks.sweep import at_rate, outcome_of
from benchmarks.table import Cell, Table, as_text
from benchmarks.workloads.fraud.application import GRAPH, Application, Expected, decision_application, is_built
from benchmarks.workloads.fraud.decision_summary import decision_tables, read_decision_summary
from benchmarks.workloads.fraud.live import CLIENTS, Answer, Front
from benchmarks.workloads.fraud.reasons import REASONS

RATES_PER_S = (100.0, 300.0)
LOAD_S = 4.0
TRIES_MAX = 2
LIVE = CHECKED
ROWS_SHOWN = 8
ALERT_S_MAX = 1.0
DIFFERENCE_MAX = 1e-4
"""Of a probability: the models compute in float32."""

SHOWN = ("load", "offered/s", "goodput", "p50 ms", "p99 ms", "max ms", "server core", "verdict")
NEXT_HTTP_PORT = 8000


@dataclass(frozen=True, slots=True)
class Agreement:
    """The largest distance of served probabilities from the libraries' own over history, by protocol, and what is allowed."""

    differences: Mapping[str, float]
    bound: float

    @property
    def holds(self) -> bool:
        """Whether all are within the bound; a NaN is not."""
        return all(difference <= self.bound for difference in self.differences.values())


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache", help="where models, logs and specs go")
    cache = parser.parse_args(arguments).cache.resolve()
    built_before = is_built(Application(cache / "fraud"))
    application = decision_application(cache / "fraud")
    if built_before:  # else the build has just printed them
        for table in decision_tables(read_decision_summary(application.folder)):
            print(as_text(table))
    return run(application, cache / "demo")


def run(application: Application, out: Path) -> int:
    """The demo of an application that is there; its exit code."""
    beside = files_beside(application)
    with serve(whole_spec(application), out, GRAPH, beside=beside) as server:
        print(f"vireo serve answers, gRPC on port {server.grpc_port}, HTTP on port {server.http_port}")
        with closing(Past(application, server.grpc_port)) as past, closing(Front(server, application)) as front:
            feed(past)
            answers = live(front, past, application.expected())
            write_request(front, answers[-1].number + 1, out / "transaction.json")
            show_ledger(front, answers[-1].number + 1)
        agreement = show_answers(answers, application)
        late = show_alerts(answers)
        measured = measure_latency(server, application, out)
        code = server.process.stop()
    print(f"the server got SIGTERM and ended with exit code {code}\n")
    print(next_steps(application, out / "transaction.json"))
    missed = any(one.load.verdict == Verdict.MISSED for one in measured)
    return int(not agreement.holds or late or missed or code != 0)


def feed(past: Past) -> None:
    """What happened before the test days."""
    began_s = time.monotonic()
    past.fill()
    print(f"its logs were fed with all transactions and labels before, in {time.monotonic() - began_s:.1f} s\n")


def live(front: Front, past: Past, expected: Expected) -> list[Answer]:
    """The first transactions of the test days, in order, labels told as they become known."""
    protocols, answers = list(CLIENTS), []
    for index, number in enumerate(expected.number[:LIVE].tolist()):
        past.tell_labels(int(past.instants_us[index]))
        answers.append(front.score(number, protocols[index % len(protocols)]))
    return answers


def show_answers(answers: Sequence[Answer], application: Application) -> Agreement:
    """Print some, and say how far all are from what history and the libraries say."""
    expected, amounts = application.expected(), application.transactions().amount_cents / 100
    print(as_text(answer_table(answers, expected, amounts)))
    agreement = agreement_of(answers, expected)
    print(agreement_line(agreement, len(answers)) + "\n")
    return agreement


def agreement_of(answers: Sequence[Answer], expected: Expected) -> Agreement:
    """How far each protocol's probabilities are."""
    found = dict.fromkeys(CLIENTS, 0.0)
    for answer, own in zip(answers, expected.probability, strict=False):
        # A NaN stays: max() would lose it.
        found[answer.protocol] = float(np.maximum(found[answer.protocol], abs(answer.probability - own)))
    return Agreement(found, DIFFERENCE_MAX)


def agreement_line(agreement: Agreement, count: int) -> str:
    """The agreement in a sentence."""
    said = ", ".join(f"{difference:.1e} over {name}" for name, difference in agreement.differences.items())
    word = "agree" if agreement.holds else "DISAGREE"
    return (
        f"{count} transactions {word} with LightGBM and scikit-learn over features by history: largest difference {said}, "
        f"allowed {agreement.bound:.0e}"
    )


def answer_table(answers: Sequence[Answer], expected: Expected, amounts: "np.ndarray[Any, Any]") -> Table:
    """The most probable frauds and as many others."""
    half = ROWS_SHOWN // 2
    ranked = sorted(range(len(answers)), key=lambda index: -answers[index].probability)
    rows: list[list[Cell]] = []
    for index in [*ranked[:half], *ranked[half :: max(len(ranked) // half, 1)][:half]]:
        answer = answers[index]
        reasons = " ".join(f"{code} {added:+.1f}" for code, added in answer.reasons)
        rows.append(
            [
                answer.number,
                f"{amounts[answer.number]:.2f}",
                "fraud" if expected.fraud[index] else "genuine",
                f"{expected.probability[index]:.5f}",
                f"{answer.probability:.5f}",
                answer.protocol,
                answer.decision,
                reasons or "-",
            ]
        )
    columns = ["transaction", "amount", "truth", "by history", "served", "over", "decision", "reasons (log-odds added)"]
    return Table("Fraud probability of some transactions", "Their days are new to the models.", columns, rows)


def show_alerts(answers: Sequence[Answer]) -> bool:
    """Print one alert and how soon they came; whether half of them were late: one alone may be a busy machine's."""
    alerts = [answer.alert for answer in answers if answer.alert is not None]
    if not alerts:
        print("no transaction was declined, so there is no alert\n")
        return False
    after_s = sorted(each.after_s for each in alerts)
    first = alerts[0]
    print(f"the first of {len(alerts)} alerts in the alert log: probability {first.probability:.3f}")
    for code, added in json.loads(first.reasons):
        print(f"  {added:+.2f}  {REASONS[code].text}")
    print(f"  decided by {first.versions}")
    median_ms, most_ms = after_s[len(after_s) // 2] * 1e3, after_s[-1] * 1e3
    print(
        f"from sending to reading the alert: {median_ms:.0f} ms (median), {most_ms:.0f} ms at most; {ALERT_S_MAX:g} s allowed\n"
    )
    return after_s[len(after_s) // 2] > ALERT_S_MAX


def show_ledger(front: Front, number: int) -> None:
    """Where the time of one request went."""
    _, ledger = front.ask_with_ledger(number)
    print(as_text(ledger_table(ledger)))


def ledger_table(ledger: Mapping[str, Any]) -> Table:
    """The stages as the header tells them."""
    rows: list[list[Cell]] = [
        [
            each["name"],
            f"{each['wait_us']:.0f}",
            f"{each['compute_us']:.0f}",
            "yes" if each["critical"] else "",
            each["mark"],
        ]
        for each in ledger["stages"]
    ]
    about = (
        f"The header vireo-ledger of an HTTP request in JSON, {ledger['total_us']:,.0f} µs from first byte to answer."
    )
    return Table("Where the time went", about, ["stage", "wait µs", "compute µs", "critical", "mark"], rows)


def measure_latency(server: Server, application: Application, out: Path) -> list[Measured]:
    """Hold each rate over each protocol and print the table."""
    stream = Stream(application, out)
    order = order_of(server.grpc_port, application.frames, Options(out=out))
    orders = [held(order, server, protocol, rate, LOAD_S) for protocol in Protocol for rate in RATES_PER_S]
    print(f"measuring latency, {len(orders)} loads of {LOAD_S:g} s", flush=True)
    measured = [measure_validly(one, server, stream) for one in orders]
    print(as_text(latency_table(measured)))
    if any(outcome_of(one.load.verdict) is None for one in measured):
        print(f"An invalid verdict, {TRIES_MAX} times over, says that this machine is too busy to judge the server.\n")
    return measured


def measure_validly(order: LoadOrder, server: Server, stream: Stream) -> Measured:
    """The first measurement that says something about the server, or the last of TRIES_MAX; of new transactions each."""
    assert order.rate_per_s is not None
    for attempt in range(TRIES_MAX):
        frames = stream.fresh(int(2 * order.rate_per_s * (order.warmup_s + order.duration_s)))
        measured = measure(at_rate(replace(order, frames=str(frames)), order.rate_per_s, attempt), server.process)
        if outcome_of(measured.load.verdict) is not None:
            break
    return measured


def latency_table(measured: Sequence[Measured]) -> Table:
    """The columns of the fraud benchmark that matter at first sight."""
    rows = [[load_row(one)[COLUMNS.index(name)] for name in SHOWN] for one in measured]
    about = f"Poisson arrivals, one row each, timed from the scheduled send; the target is p99 below {TARGET_MS:g} ms."
    return Table("Latency", about, list(SHOWN), rows)


def write_request(front: Front, number: int, file: Path) -> None:
    """A transaction as a JSON request for HTTP."""
    file.write_bytes(msgspec.json.encode(front.as_json(number)) + b"\n")


def next_steps(application: Application, request: Path) -> str:
    """What to try, as commands to paste."""
    vireo, spec = near(Path(sys.executable).with_name("vireo")), near(application.spec)
    commands = [
        [vireo, "serve", spec, "--http-port", str(NEXT_HTTP_PORT)],
        ["curl", "-s", f"http://127.0.0.1:{NEXT_HTTP_PORT}/v2/models/{GRAPH}/infer", "-d", f"@{near(request)}"],
        [vireo, "explain", spec],
        ["make", "bench"],
    ]
    notes = ["serve it yourself", "and ask it, from another terminal", "the graph, and what was chosen and why", "more"]
    lines = [f"  {shlex.join(command)}  # {note}" for command, note in zip(commands, notes, strict=True)]
    return "Try next:\n" + "\n".join(lines)


def near(path: Path) -> str:
    """The path as seen from here, where that is shorter."""
    return min(os.path.relpath(path), str(path), key=len)


if __name__ == "__main__":
    sys.exit(main())
