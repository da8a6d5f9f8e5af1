"""The command line that all benchmarks share."""

import argparse
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

from benchmarks.fraud_inputs import FRAUD
from benchmarks.machine import ROOT

OUT = ROOT / ".cache" / "bench"
TRANSPORTS = ("native", "grpcio", "auto")


@dataclass(frozen=True, slots=True)
class Options:
    """Where results go, where the fraud inputs lie, whether to be quick, and the seed of every schedule.

    For the benchmark `wire` alone: `transports` of Vireo to measure (none: its own choice) and the HOST:PORT of a Triton
    to measure instead of the one that is installed here. For `soak` alone: how many `minutes`; it takes the first
    transport, native where there is none. `cores` takes all, native where there is none. For `features`, `graphs` and
    `vectors`: `only` these of its parts, all where there is none; for `fraud`, of its services.
    """

    out: Path = OUT
    inputs: Path = FRAUD
    quick: bool = False
    seed: int = 1
    transports: tuple[str, ...] = ()
    triton: str | None = None
    minutes: float | None = None
    only: tuple[str, ...] = ()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the fields of Options on `parser`."""
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the reports (default .cache/bench)")
    parser.add_argument("--inputs", type=Path, default=FRAUD, help="fraud model and requests (default .cache/fraud)")
    parser.add_argument("--quick", action="store_true", help="under a minute, with fewer and shorter points")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--transports",
        type=transports,
        default=(),
        metavar="NAME,...",
        help="wire, cores: native, grpcio, auto; more than one to compare. soak: one of them",
    )
    parser.add_argument("--triton", type=address, metavar="HOST:PORT", help="wire: measure this Triton")
    parser.add_argument(
        "--only",
        type=names,
        default=(),
        metavar="PART,...",
        help="features, graphs, vectors: these parts; fraud: these services",
    )
    parser.add_argument("--minutes", type=minutes, help="soak: how long (default 20, with --quick 1)")


def names(text: str) -> tuple[str, ...]:
    """What stands between commas, each once."""
    return tuple(dict.fromkeys(each for each in text.split(",") if each))


def transports(text: str) -> tuple[str, ...]:
    """Names between commas. Raises ArgumentTypeError for one that is not known."""
    given = tuple(dict.fromkeys(text.split(",")))
    if unknown := set(given) - set(TRANSPORTS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))} is not among {', '.join(TRANSPORTS)}")
    return given


def address(text: str) -> str:
    """HOST:PORT as it was given. Raises ArgumentTypeError for anything else."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not HOST:PORT")
    return text


def minutes(text: str) -> float:
    """A time above zero. Raises ArgumentTypeError for anything else."""
    with suppress(ValueError):
        if 0 < float(text) < float("inf"):
            return float(text)
    raise argparse.ArgumentTypeError(f"'{text}' is not a number of minutes above 0")


def options_of(parsed: argparse.Namespace) -> Options:
    """What was parsed by a parser that `add_options` was given."""
    return Options(**{field.name: getattr(parsed, field.name) for field in fields(Options)})


def parse_options(about: str | None, arguments: list[str] | None = None) -> Options:
    """Options from a command line; `about` is the benchmark's docstring."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    return options_of(parser.parse_args(arguments))
