"""Offer load to a server and print what came of it as JSON.

    python -m benchmarks.load --port 8001 --frames requests.frames --rate 2000 --target-ms 100   # open loop, Poisson
    python -m benchmarks.load --port 8001 --frames requests.frames --callers 8                   # closed loop
    python -m benchmarks.load --port 8000 --protocol http --frames requests.frames --rate 500 --connections 64

Exit code: 0 measured or target met, 1 target missed, 2 bad arguments, no server, or the engine that was asked for cannot
be had, 3 the run proves nothing (the generator was late, or the samples are too few for the percentile).
"""

import argparse
import dataclasses
import sys

import msgspec

from benchmarks.load.native.build import BuildError
from benchmarks.load.order import INFER_PATH, Engine, LoadOrder, Protocol
from benchmarks.load.run import carry_out
from benchmarks.load.verdict import EXIT_CODES, Verdict

SERVER_UNREACHABLE = 2


def parser() -> argparse.ArgumentParser:
    """The command line; its destinations are the fields of LoadOrder."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--port", type=int, required=True)
    made.add_argument("--frames", required=True, help="gRPC frames, rotated through; HTTP bodies derive from them")
    made.add_argument("--protocol", type=Protocol, default=Protocol.GRPC, choices=list(Protocol))
    made.add_argument("--host", default="127.0.0.1")
    made.add_argument("--path", default=INFER_PATH, help="gRPC method (default %(default)s)")
    loop = made.add_mutually_exclusive_group(required=True)
    loop.add_argument("--rate", dest="rate_per_s", type=float, help="open loop: Poisson arrivals per second")
    loop.add_argument("--callers", type=int, help="closed loop: how many callers, each with one request in flight")
    made.add_argument("--duration-s", type=float, default=5.0)
    made.add_argument("--warmup-s", type=float, default=1.0, help="before the duration, left out of all figures")
    made.add_argument("--drain-s", type=float, default=5.0, help="how long to wait for the last answers")
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--connections", type=int, default=8)
    made.add_argument("--core", type=int, help="pin the generator to this core")
    made.add_argument("--spin-us", type=int, default=1_000_000, help="stay awake before a send is due; 0: sleep")
    made.add_argument("--deadline-ms", type=float, help="answers later than this are not goodput")
    made.add_argument("--target-ms", type=float, help="ask for a verdict on the percentile below")
    made.add_argument("--percent", type=float, default=99.0)
    made.add_argument("--timeout-ms", type=int, help="send this grpc-timeout")
    made.add_argument("--window-bytes", type=int, default=2**31 - 1, help="HTTP/2 receive window to grant")
    made.add_argument("--samples", help="write every sample to this .npz file")
    made.add_argument("--engine", type=Engine, choices=list(Engine), help="default: native for gRPC, if it compiles")
    made.add_argument("--announce", action="store_true", help="print the measured window first, on a line of its own")
    return made


def announce(begin_ns: int, end_ns: int) -> None:
    """Tell the parent process when the measured window is."""
    print(msgspec.json.encode({"begin_ns": begin_ns, "end_ns": end_ns}).decode(), flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, print; the exit code."""
    parsed = parser().parse_args(arguments)
    fields = {field.name: getattr(parsed, field.name) for field in dataclasses.fields(LoadOrder)}
    try:
        result = carry_out(LoadOrder(**fields), announce if parsed.announce else None)
    except (OSError, ValueError, BuildError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return SERVER_UNREACHABLE
    print(msgspec.json.encode(result).decode())
    return EXIT_CODES[Verdict(result.verdict)]


if __name__ == "__main__":
    sys.exit(main())
