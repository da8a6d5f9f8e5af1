"""What the fraud sweep compares: each a service that scores a transaction, on one core, with its requests."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.fraud_inputs import FraudInputs
from benchmarks.graphs import like
from benchmarks.graphs.running import serve
from benchmarks.graphs.stack_case import StackCase, stack_case
from benchmarks.harness import SERVER_CORE, Measurable
from benchmarks.peers import environments, triton_package
from benchmarks.peers.stack import NAMES, Lookup, Stack, start_stack

FULL, LIKE = "Vireo, the whole decision", "Vireo, like for like"
OURS = (FULL, LIKE)
STACKS = tuple(NAMES.values())


class NotHereError(Exception):
    """A contender cannot run for want of something that is not ours; the message says of what."""


@dataclass(frozen=True, slots=True)
class Contender:
    """Something that answers. `metrics_port` is of ours: HTTP, with Prometheus' metrics."""

    name: str
    port: int
    frames: Path
    process: Measurable
    metrics_port: int | None = None

    def cpu_by_part(self) -> Mapping[str, float]:
        """CPU seconds so far of each process, where there are several."""
        return self.process.cpu_by_part() if isinstance(self.process, Stack) else {}


Opened = Callable[[], AbstractContextManager[Contender]]


def contenders(inputs: FraudInputs, out: Path, seed: int) -> dict[str, Opened]:
    """All by a short name, ours first. Opening one raises NotHereError where it cannot run."""
    stacks = {each.value: partial(stack_contender, inputs, out, seed, each) for each in Lookup}
    return {"like": partial(like_contender, inputs, out, seed), **stacks}


@contextmanager
def like_contender(
    inputs: FraudInputs, out: Path, seed: int, core: int | tuple[int, ...] | None = SERVER_CORE
) -> Iterator[Contender]:
    """Ours, doing what the stack does. Raises ServerError."""
    case = stack_case(inputs, seed)
    folder = out / "like"
    with serve(like.like_spec(case, folder), folder, like.GRAPH, core=core) as server:
        like.fill(case, server.grpc_port, seed)
        frames = like.like_frames(case, folder)
        yield Contender(LIKE, server.grpc_port, frames, server.process, server.http_port)


@contextmanager
def stack_contender(inputs: FraudInputs, out: Path, seed: int, lookup: Lookup) -> Iterator[Contender]:
    """The stack. Raises NotHereError, ServerError, PeerError, WrongAnswerError."""
    case: StackCase = stack_case(inputs, seed)
    try:
        stack = start_stack(case, lookup, out)
    except (environments.NotInstalledError, triton_package.NotInstalledError) as error:
        raise NotHereError(str(error)) from error
    with stack:
        yield Contender(NAMES[lookup], stack.port, case.write_frames(out), stack)
