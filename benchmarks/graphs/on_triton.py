"""The fraud and the recommendation graph as they are, with their models in the process and on a real Triton: the same requests,
and whether the same is said.

The fraud graph learns from what it scores: that is shown to its views before the next request. Reasons need no model in the
process: the fraud graph's are of a function that has the trees in a file of its own, the recommendation's are the ranker's own
answers without a group of features.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import numpy as np
import yaml
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks.graphs.running import Declared, serve
from benchmarks.graphs.whole import Past, files_beside, whole_spec
from benchmarks.load.frames import message_of, read_frames
from benchmarks.peers.triton import start_over
from benchmarks.peers.triton_exported import export_models, on_triton
from benchmarks.recommendation.inputs import Shop
from benchmarks.recommendation.served import served
from benchmarks.report import Judgement
from benchmarks.table import Cell, Table
from benchmarks.workloads.fraud.application import GRAPH, Application
from benchmarks.workloads.recommendation import application as recommendation

FLOATS = {"FP32": "<f4", "FP64": "<f8"}
DIFFERENCE_MAX = 1e-6
COLUMNS = [
    "graph",
    "requests",
    "outputs",
    "numbers differ by at most",
    "other answers",
    "p50 ms in process",
    "p50 ms on Triton",
]

Outputs = dict[str, tuple[str, bytes]]
"""Datatype and content by name."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One answer and how long it took."""

    outputs: Outputs
    took_ms: float


@dataclass(frozen=True, slots=True)
class Compared:
    """One graph: `difference` is the largest of its floating-point numbers; `other`: requests of which anything else differs."""

    graph: str
    requests: int
    outputs: int
    difference: float
    other: int
    here_ms: float
    there_ms: float


def compared(graph: str, here: Sequence[Asked], there: Sequence[Asked]) -> Compared:
    """The answers of both, request by request. Pure."""
    difference, other = 0.0, 0
    for one, another in zip(here, there, strict=True):
        apart = [distance(each, another.outputs.get(name)) for name, each in one.outputs.items()]
        difference = max([difference, *(each for each in apart if each != float("inf"))])
        other += float("inf") in apart or one.outputs.keys() != another.outputs.keys()
    return Compared(
        graph, len(here), len(here[0].outputs), difference, other,
        median(each.took_ms for each in here), median(each.took_ms for each in there),
    )  # fmt: skip


def distance(one: tuple[str, bytes], other: tuple[str, bytes] | None) -> float:
    """Of numbers of floating point the largest difference; of all else 0 where they are the same, infinite where not."""
    if one == other:
        return 0.0
    if other is None or one[0] != other[0] or one[0] not in FLOATS or len(one[1]) != len(other[1]):
        return float("inf")
    here, there = (np.frombuffer(each[1], FLOATS[one[0]]) for each in (one, other))
    unlike = (here != there) & ~(np.isnan(here) & np.isnan(there))
    apart = float(np.abs(here[unlike] - there[unlike]).max(initial=0.0))
    return float("inf") if np.isnan(apart) else apart  # one of them is no number


class Asking:
    """One caller of a server at `port`."""

    def __init__(self, port: int) -> None:
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def ask(self, frame: bytes) -> Asked:
        """The answer to a request."""
        request = service_pb2.ModelInferRequest.FromString(message_of(frame))
        began_s = time.perf_counter()
        answer: Any = self._stub.ModelInfer(request, timeout=30)
        took_ms = (time.perf_counter() - began_s) * 1e3
        contents = zip(answer.outputs, answer.raw_output_contents, strict=True)
        return Asked({each.name: (each.datatype, content) for each, content in contents}, took_ms)

    def close(self) -> None:
        """Hangs up."""
        self._channel.close()


@contextmanager
def hosted(spec: Declared, folder: Path, out: Path) -> Iterator[Callable[[Declared], Declared]]:
    """A Triton with the models of a spec in `folder`; how the spec names them there. Raises NotInstalledError, ServerError."""
    shutil.rmtree(out, ignore_errors=True)
    names = export_models(spec, folder, out / "models")
    with start_over(out / "models", names[-1], label="Triton") as triton:
        yield partial(on_triton, address=f"127.0.0.1:{triton.grpc_port}", names=names)


def fraud_compared(application: Application, out: Path, count: int) -> Compared:
    """The first transactions of the test days, one after the other, after all that was before them."""
    spec, beside = whole_spec(application), files_beside(application)
    frames = read_frames(application.frames)[:count]
    answers: list[list[Asked]] = []
    with hosted(spec, application.folder, out / "fraud-triton") as moved, ExitStack() as stack:
        for name, each in (("here", spec), ("there", moved(spec))):
            server = stack.enter_context(serve(each, out / f"fraud-{name}", GRAPH, beside=beside))
            past = stack.enter_context(closing(Past(application, server.grpc_port)))
            past.fill()
            asking = stack.enter_context(closing(Asking(server.grpc_port)))
            answers.append([])
            for index, frame in enumerate(frames):
                past.tell_labels(int(past.instants_us[index]))
                answers[-1].append(asking.ask(frame))
                past.show_scored(index)
    return compared("fraud", *answers)


def recommendation_compared(shop: Shop, out: Path, count: int) -> Compared:
    """The first requests; of the shop's files, which one server at a time may hold."""
    frames = read_frames(shop.frames)[:count]
    answers = []
    spec = yaml.safe_load(recommendation.Application(shop.folder).spec.read_text())
    with hosted(spec, shop.folder, out / "recommendation-triton") as moved:
        for change in (dict, moved):
            with served(shop, out, change) as contender, closing(Asking(contender.port)) as asking:
                answers.append([asking.ask(frame) for frame in frames])
    return compared("recommendation", *answers)


def table(found: Sequence[Compared]) -> Table:
    """A line for each graph."""
    rows: list[list[Cell]] = [
        [
            each.graph,
            each.requests,
            each.outputs,
            f"{each.difference:.1e}",
            each.other,
            round(each.here_ms, 2),
            round(each.there_ms, 2),
        ]
        for each in found
    ]
    return Table(
        "graphs", "The same requests, one after the other, with the models in the process and on Triton.", COLUMNS, rows
    )


def judgements(found: Sequence[Compared]) -> list[Judgement]:
    """Whether each graph says the same."""
    return [
        Judgement(
            f"the {each.graph} graph with its models on Triton says the same to {DIFFERENCE_MAX:g}",
            each.difference <= DIFFERENCE_MAX and not each.other,
            f"{each.requests} requests: numbers differ by at most {each.difference:.1e}, {each.other} have other answers",
        )
        for each in found
    ]
