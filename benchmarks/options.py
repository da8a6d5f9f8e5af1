"""The command line that all benchmarks share."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fraud_inputs import FRAUD
from benchmarks.machine import ROOT

OUT = ROOT / ".cache" / "bench"


@dataclass(frozen=True, slots=True)
class Options:
    """Where results go, where the fraud inputs lie, whether to be quick, and the seed of every schedule."""

    out: Path = OUT
    inputs: Path = FRAUD
    quick: bool = False
    seed: int = 1


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the fields of Options on `parser`."""
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the reports (default .cache/bench)")
    parser.add_argument("--inputs", type=Path, default=FRAUD, help="fraud model and requests (default .cache/fraud)")
    parser.add_argument("--quick", action="store_true", help="under a minute, with fewer and shorter points")
    parser.add_argument("--seed", type=int, default=1)


def parse_options(about: str | None, arguments: list[str] | None = None) -> Options:
    """Options from a command line; `about` is the benchmark's docstring."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parsed = parser.parse_args(arguments)
    return Options(parsed.out, parsed.inputs, parsed.quick, parsed.seed)
