"""`vireo compile`: the kernels of an installation, several at once, so that no start waits for them."""

from __future__ import annotations

import argparse
import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.util import find_spec
from multiprocessing import get_context, parent_process

from engine import KERNEL_PARTS, PROCESSORS, FailedPrecondition, compile_kernels


def add_compile_options(command: argparse.ArgumentParser) -> None:
    """What `vireo compile` is asked."""
    command.add_argument(
        "--cpu", choices=PROCESSORS, help="a kind of processor in place of this one, as VIREO_KERNEL_CPUS names it",
    )  # fmt: skip
    command.add_argument(
        "parts", nargs="*", metavar="PART", type=_part, default=KERNEL_PARTS, help=f"of {', '.join(KERNEL_PARTS)} (default: all)"
    )  # fmt: skip
    command.set_defaults(run=run_compile)


def run_compile(arguments: argparse.Namespace) -> int:
    """Compiles what is asked and says how long it took. Raises FailedPrecondition where the compiler is not installed."""
    if find_spec("numba") is None:
        raise FailedPrecondition("kernels are compiled by numba, which comes with the extra 'features'")
    parts, began_s = tuple(arguments.parts), time.perf_counter()
    workers = min(len(parts), len(os.sched_getaffinity(0)))
    # Processes, since the compiler holds the interpreter's lock
    with ProcessPoolExecutor(workers, get_context("spawn"), _compile_for, (arguments.cpu,)) as pool:
        asked = {pool.submit(_took_s, each): each for each in parts}
        for number, done in enumerate(as_completed(asked), 1):
            print(f"[{number}/{len(parts)}] {asked[done]}: {done.result():.1f} s", flush=True)
    print(f"kernels are compiled for {arguments.cpu or 'this processor'}, in {time.perf_counter() - began_s:.1f} s")
    return 0


def _part(text: str) -> str:
    if text not in KERNEL_PARTS:
        raise argparse.ArgumentTypeError(f"no part is called {text!r}; there are {', '.join(KERNEL_PARTS)}")
    return text


def _compile_for(cpu: str | None) -> None:
    """In a process that has not imported numba yet, which reads this when it is."""
    if cpu is not None:
        os.environ["NUMBA_CPU_NAME"], os.environ["NUMBA_CPU_FEATURES"] = cpu, ""
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A pool's process would wait for work for ever where whoever gave it was killed."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _took_s(part: str) -> float:
    began_s = time.perf_counter()
    compile_kernels(part)
    return time.perf_counter() - began_s
