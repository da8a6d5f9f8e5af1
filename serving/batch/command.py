"""`vireo batch`: its options, its signals, and what it tells. It loads Arrow only once it runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from engine import InvalidArgument, Spec, SpecError, limits, quoted
from serving.batch.progress import Progress, clock_text
from serving.long_run import Said, ServerAddress, token_in, until_signal

if TYPE_CHECKING:
    from serving.batch.columns import Wanted
    from serving.batch.parts import Output
    from serving.batch.scorer import Scorer
    from serving.batch.source import Source

Load = Callable[[Path], Spec]


def add_options(batch: argparse.ArgumentParser) -> None:
    """The options of `vireo batch`, after the spec."""
    batch.add_argument("model", metavar="MODEL", help="a model, function, graph or traffic split of the spec")
    batch.add_argument(
        "--input",
        required=True,
        metavar="PATH",
        help="a Parquet or Arrow file, a folder of them, or grpc://HOST:PORT/TICKET of Arrow Flight",
    )
    batch.add_argument(
        "--output", required=True, type=Path, metavar="PATH",
        help="a .parquet or .arrow file; without such an ending, a folder of Parquet parts",
    )  # fmt: skip
    batch.add_argument(
        "--columns", default="", metavar="INPUT=COLUMN,...", help="where a column is not named as its input"
    )
    batch.add_argument(
        "--keep", default="", metavar="[NEW=]COLUMN,...", help="columns of the input to keep; * keeps all"
    )
    batch.add_argument("--outputs", default="", metavar="NAME,...", help="outputs of the model to write (default: all)")
    batch.add_argument("--model-version", type=_whole(1, 1 << 62), metavar="N", help="default: the newest")
    batch.add_argument(
        "--rejects", type=Path, metavar="FILE", help="put bad rows there, with the reason; else the first ends the run"
    )
    batch.add_argument("--rate", type=_rate, metavar="ROWS/S", help="at most so many rows a second, evenly")
    batch.add_argument(
        "--batch-size", type=_whole(1, limits.BATCH_READ_ROWS_MAX), default=limits.BATCH_READ_ROWS, metavar="ROWS",
        help="rows of one request (default: %(default)s, fewer where the model or the rate allows no more)",
    )  # fmt: skip
    batch.add_argument(
        "--concurrency", type=_whole(1, limits.BATCH_CONCURRENCY_MAX), default=2, metavar="N",
        help="requests under way at once (default: %(default)s)",
    )  # fmt: skip
    batch.add_argument(
        "--server", metavar="HOST:PORT", help="have this server answer, by gRPC, instead of an engine here"
    )
    batch.add_argument(
        "--ca", type=Path, metavar="FILE", help="speak TLS with --server; it is trusted by this certificate"
    )
    batch.add_argument(
        "--token-env", metavar="VARIABLE", help="environment variable with the bearer token for --server"
    )
    batch.add_argument("--restart", action="store_true", help="begin anew, whatever was done before")
    batch.add_argument("--json", action="store_true", help="print a summary as one line of JSON")


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return parse


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 1e-3 <= rate <= 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of rows a second from 0.001 to 1e9")
    return rate


def run_batch(arguments: argparse.Namespace, load: Load) -> int:
    """Runs or resumes; 0 when all rows are done, 128 + the signal's number where one ended it. Raises VireoError."""
    if not find_spec("pyarrow"):
        raise SpecError("batch needs Apache Arrow, which is not installed; pip install 'vireo[features]'")
    from serving.batch.columns import resolve_columns
    from serving.batch.parts import Output, check_output
    from serving.batch.run import BatchRun, Settings

    check_output("--output", arguments.output)
    if arguments.rejects is not None:
        check_output("--rejects", arguments.rejects)
        if not arguments.rejects.suffix or arguments.rejects == arguments.output:
            raise InvalidArgument("--rejects: a file of its own, that ends in .parquet or .arrow")
    wanted = _wanted(arguments)
    source = _source(arguments.input)
    with until_signal() as (stop, caught), closing(_scorer(arguments, load)) as scorer:
        columns = resolve_columns(scorer.model, scorer.signature, source.schema, wanted)
        with closing(Output(arguments.output, arguments.rejects)) as output:
            output.begin(_identity(source, scorer, columns), restart=arguments.restart)
            settings = Settings(
                arguments.batch_size, arguments.rate, arguments.concurrency, reject=arguments.rejects is not None
            )
            if output.manifest.done:
                output.tidy()
                ended = Progress(
                    output.manifest.rows_read, source.rows, output.manifest.rows_read, output.manifest.rejected, 0.0
                )
            else:
                said = Said("vireo batch")
                ended = BatchRun(source, scorer, columns, output, settings, stop).run(said)
                said.end()
            return _tell(arguments, scorer, output, ended, caught)


def _source(text: str) -> Source:
    if "://" not in text:
        from serving.batch.source import Files

        return Files(Path(text))
    from serving.batch.flight_source import SCHEMES, FlightStream

    if not text.startswith(SCHEMES):
        raise InvalidArgument(f"--input: expected a path or {SCHEMES[0]}HOST:PORT/TICKET, got {quoted(text)}")
    return FlightStream(text)


def _scorer(arguments: argparse.Namespace, load: Load) -> Scorer:
    spec = load(arguments.app)
    if arguments.server is None:
        from serving.batch.scorer import EngineScorer

        if arguments.ca or arguments.token_env:
            raise InvalidArgument("--ca and --token-env are for --server")
        return EngineScorer(spec, arguments.model, arguments.model_version)
    from serving.batch.remote import ServerScorer

    address = ServerAddress(arguments.server, arguments.ca, token_in(arguments.token_env))
    return ServerScorer(address, arguments.model, arguments.model_version)


def _wanted(arguments: argparse.Namespace) -> Wanted:
    from serving.batch.columns import Wanted

    pairs = dict(_pairs("--columns", arguments.columns))
    kept = tuple(_pairs("--keep", arguments.keep, same=True))
    return Wanted(pairs, kept, tuple(name for name, _ in _pairs("--outputs", arguments.outputs, same=True)))


def _pairs(option: str, text: str, *, same: bool = False) -> list[tuple[str, str]]:
    """NAME=COLUMN, ...; where they may be the `same`, one word is both."""
    found = []
    for each in filter(None, (part.strip() for part in text.split(","))):
        name, equals, column = each.partition("=")
        if not name or (equals and not column) or not (equals or same):
            raise InvalidArgument(f"{option}: expected NAME=COLUMN, got {each!r}")
        found.append((name, column or name))
    return found


def _identity(source: Source, scorer: Scorer, columns: object) -> dict[str, object]:
    return {
        "input": source.identity,
        "model": scorer.identity,
        "columns": {each: getattr(columns, each) for each in ("inputs", "kept", "outputs")},
    }


def _tell(arguments: argparse.Namespace, scorer: Scorer, output: Output, ended: Progress, caught: list[int]) -> int:
    done = output.manifest.done
    if arguments.json:
        print(orjson.dumps({
            "output": str(arguments.output), "model": scorer.model, "version": scorer.version, "complete": done,
            "rows": output.manifest.rows, "rejected": output.manifest.rejected, "rows_total": ended.total,
            "rows_before": ended.earlier, "seconds": round(ended.elapsed_s, 3), "rows_per_s": round(ended.rows_per_s, 1),
        }).decode())  # fmt: skip
    how = f"{ended.line()} in {clock_text(ended.elapsed_s)}"
    if done:
        print(f"vireo batch: {arguments.output} is complete: {how}", file=sys.stderr)
        return 0
    print(f"vireo batch: stopped after {how}; the same command goes on from there", file=sys.stderr)
    return 128 + caught[0]
