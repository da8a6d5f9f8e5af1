"""`vireo experiment` and `vireo export`: what they are asked on the command line, and what they do."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import Spec, SpecError, duration_us, endings, instant_us, limits, load_spec, quoted

if TYPE_CHECKING:
    from engine import ExperimentQuestion, ExperimentReport, Exposures


def add_experiment_options(command: argparse.ArgumentParser) -> None:
    """What `vireo experiment` is asked."""
    command.add_argument(
        "exposures",
        type=Path,
        metavar="APP.yaml|FILE",
        help="a spec whose split keeps exposures, or a file of exposures",
    )
    command.add_argument(
        "--outcomes",
        type=Path,
        required=True,
        metavar="FILE",
        help=f"what users did: {endings('.csv')}",
    )
    command.add_argument("--experiment", metavar="NAME", help="the split, where there are several")
    command.add_argument("--champion", metavar="VARIANT", help="what the others are held against (default: 'champion')")
    command.add_argument(
        "--weights", type=_weights, metavar="A=90,B=10", help="declared shares, where a spec says nothing"
    )
    command.add_argument("--key", default="key", metavar="COLUMN", help="of outcomes: the user (default: key)")
    command.add_argument("--time", default="time", metavar="COLUMN", help="of outcomes: when (default: time)")
    command.add_argument("--value", default="value", metavar="COLUMN", help="of outcomes: how much (default: value)")
    command.add_argument(
        "--metric", choices=("mean", "ratio"), default="mean", help="values per user, or per exposure (default: mean)"
    )
    command.add_argument("--per", metavar="COLUMN", help="of outcomes: what a ratio divides by instead of exposures")
    command.add_argument("--within", type=_window, metavar="7d", help="count so long from each user's first exposure")
    command.add_argument("--since", type=_instant, metavar="INSTANT", help="leave out earlier exposures")
    command.add_argument(
        "--crossed", choices=("first", "exclude"), default="first", help="users given two variants (default: first)"
    )
    command.add_argument(
        "--covariate", type=Path, metavar="FILE", help="what users did before, as outcomes: narrower intervals (CUPED)"
    )
    command.add_argument("--confidence", type=float, default=0.95, metavar="SHARE", help="of intervals (default: .95)")
    command.add_argument("--sequential", action="store_true", help="intervals that hold however often one looks")
    command.add_argument(
        "--planned-users",
        type=int,
        default=limits.EXPERIMENT_PLANNED_USERS,
        metavar="N",
        help="users at whom these are narrowest (default: 10000)",
    )
    command.add_argument("--json", action="store_true", help="the report as JSON")


def run_experiment(arguments: argparse.Namespace) -> int:
    """Prints the report: 0, or 1 where users were not assigned as declared. Raises what reading and `experiment_report` do."""
    from engine import experiment_report, outcomes_in

    columns = {"key": arguments.key, "time": arguments.time}
    exposures = _exposures(arguments.exposures, arguments.experiment)
    if arguments.since is not None:
        exposures = exposures.since(arguments.since)
    outcomes = outcomes_in(arguments.outcomes, **columns)
    covariate = None if arguments.covariate is None else outcomes_in(arguments.covariate, **columns)
    question = _question(arguments, exposures.weights)
    report = experiment_report(exposures.experiment, exposures.table, outcomes, question, covariate)
    if arguments.json:
        print(report_json(report))
    else:
        from serving.experiment_text import report_text

        print(report_text(report), end="")
    return 1 if report.mismatched else 0


def run_export(arguments: argparse.Namespace) -> int:
    """Writes a log to a file, and says how many rows. Raises as `export_log`."""
    from engine import export_log

    rows = export_log(load_spec(arguments.app), arguments.log, arguments.file)
    print(f"{arguments.file}: {rows} rows of log {quoted(arguments.log)}")
    return 0


def report_json(report: ExperimentReport) -> str:
    """All of it, numbers that are not finite as null."""

    def plain(value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, Mapping):
            return {name: plain(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [plain(each) for each in value]
        return None if isinstance(value, float) and not abs(value) < float("inf") else value

    told = dataclasses.asdict(report) | {"mismatched": report.mismatched}
    return json.dumps(plain(told), indent=2)


def _exposures(source: Path, experiment: str | None) -> Exposures:
    from engine import exposures_in, exposures_of

    if source.suffix in (".yaml", ".yml"):
        spec: Spec = load_spec(source)
        return exposures_of(spec, experiment)
    return exposures_in(source, experiment)


def _question(arguments: argparse.Namespace, declared: Mapping[str, float] | None) -> ExperimentQuestion:
    from engine import ExperimentQuestion

    return ExperimentQuestion(
        metric=arguments.metric, value=arguments.value, per=arguments.per, champion=arguments.champion,
        weights=arguments.weights or declared, crossed=arguments.crossed, window_us=arguments.within,
        confidence=arguments.confidence, sequential=arguments.sequential, planned_users=arguments.planned_users,
    )  # fmt: skip


def _weights(text: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for each in text.split(","):
        name, _, number = each.partition("=")
        try:
            weights[name] = float(number)
        except ValueError:
            weights[name] = -1.0
        if not (name and 0 <= weights[name] < float("inf")):
            raise argparse.ArgumentTypeError(f"{text!r} is not such as 'champion=90,challenger=10'")
    return weights


def _window(text: str) -> int:
    try:
        window_us = duration_us(text)
    except SpecError as error:
        raise argparse.ArgumentTypeError(error.message) from None
    if not window_us:
        raise argparse.ArgumentTypeError("a window is longer than nothing")
    return window_us


def _instant(text: str) -> int:
    try:
        return instant_us(text)
    except SpecError as error:
        raise argparse.ArgumentTypeError(error.message) from None
