"""What the fraud sweep compares: each a service that scores a transaction, on one core, with its requests."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.fraud_inputs import FraudInputs
from benchmarks.graphs import like, whole
from benchmarks.graphs.running import serve
from benchmarks.graphs.stack_case import StackCase, stack_case
from benchmarks.harness import SERVER_CORE, Measurable, Measured, measure
from benchmarks.load.order import LoadOrder
from benchmarks.peers.stack import NAMES, Lookup, Parts, start_stack
from benchmarks.workloads.fraud.application import GRAPH, decision_application

FULL, LIKE = "Vireo, the whole decision", "Vireo, like for like"
OURS = (FULL, LIKE)
STACKS = tuple(NAMES.values())


Fresh = Callable[[int], Path]
CLOSED_PER_S = 20_000.0
"""What a closed loop is supposed to send at most."""

SPARE = 1.1


@dataclass(frozen=True, slots=True)
class Contender:
    """Something that answers. `metrics_port` is of ours: HTTP, with Prometheus' metrics."""

    name: str
    port: int
    frames: Path
    process: Measurable
    metrics_port: int | None = None
    fresh: Fresh | None = None
    """Where a request may be sent only once: frames for the next run, given about how many it sends."""

    def measure(self, order: LoadOrder) -> Measured:
        """Carry out an order, of new requests where they must be."""
        if self.fresh is not None:
            sent = (order.rate_per_s or CLOSED_PER_S) * (order.warmup_s + order.duration_s)
            order = replace(order, frames=str(self.fresh(int(sent * SPARE))))
        return measure(order, self.process)

    def cpu_by_part(self) -> Mapping[str, float]:
        """CPU seconds so far of each process, where there are several."""
        return self.process.cpu_by_part() if isinstance(self.process, Parts) else {}


Opened = Callable[[], AbstractContextManager[Contender]]


def contenders(inputs: FraudInputs, out: Path, seed: int) -> dict[str, Opened]:
    """All by a short name, ours first. Opening one raises NotInstalledError where it cannot run."""
    stacks = {each.value: partial(stack_contender, inputs, out, seed, each) for each in Lookup}
    return {
        "whole": partial(whole_contender, inputs.frames.parent, out),
        "like": partial(like_contender, inputs, out, seed),
        **stacks,
    }


@contextmanager
def whole_contender(root: Path, out: Path, core: int | tuple[int, ...] | None = SERVER_CORE) -> Iterator[Contender]:
    """The fraud decision, whole, its views filled with the past. Raises ServerError, WrongAnswerError."""
    application = decision_application(root)
    folder = out / "whole"
    with serve(
        whole.whole_spec(application), folder, GRAPH, core=core, beside=whole.files_beside(application)
    ) as server:
        with closing(whole.Past(application, server.grpc_port)) as past:
            past.fill()
            whole.check_answers(application, server.grpc_port, past)
        stream = whole.Stream(application, folder)
        yield Contender(FULL, server.grpc_port, application.frames, server.process, server.http_port, stream.fresh)


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
    """The stack. Raises NotInstalledError, ServerError, PeerError, WrongAnswerError."""
    case: StackCase = stack_case(inputs, seed)
    with start_stack(case, lookup, out) as stack:
        yield Contender(NAMES[lookup], stack.port, case.write_frames(out), stack)
