"""The whole fraud decision as a service under load: its views filled with the past, and a stream of transactions that goes on.

A transaction is scored once: its number is remembered, and one that comes again is folded into no feature. So every run of the
generator gets transactions of its own: the test days over and over, each time with new numbers and as many days later. Days
pass faster than in life, and so do the windows.
"""

import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import yaml
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks.graphs.running import Declared
from benchmarks.load.frames import message_of, read_frames
from benchmarks.peers.stack import WrongAnswerError
from benchmarks.workloads.fraud.application import Application
from benchmarks.workloads.fraud.view_features import label_events, transaction_events
from protos.vireo.v1 import features_pb2, features_pb2_grpc

DECISION_FILES = (".npz", ".json", ".py")
PUSH_ROWS = 1 << 14
WAIT_MS = 60_000
TRANSACTIONS, LABELS = LOGS = ("transactions", "labels")
CHECKED = 200
DIFFERENCE_MAX = 1e-4
COLD_TRIES, COLD_PAUSE_S = 20, 0.5
SPAN_US = 86_400 * 1_000_000
Bytes = npt.NDArray[np.uint8]


def whole_spec(application: Application) -> Declared:
    """The application's own spec; models stay where they are, logs begin anew."""
    spec: Declared = yaml.safe_load(application.spec.read_text())
    spec["repository"]["path"] = str((application.folder / spec["repository"]["path"]).resolve())
    return spec


def files_beside(application: Application) -> list[Path]:
    """What the spec's functions read."""
    return [each for each in application.folder.iterdir() if each.suffix in DECISION_FILES]


class Past:
    """What is known when, of a server at `port`: transactions before the test days, and labels as they become known."""

    def __init__(self, application: Application, port: int) -> None:
        transactions, first = application.transactions(), int(application.expected().number[0])
        events, labels = transaction_events(transactions), label_events(transactions)
        self.instants_us = events["at"].cast(pa.int64()).to_numpy()[first:]
        self._transactions, self._scored, self._labels = events.slice(0, first), events.slice(first), labels
        self._known_us = labels["at"].cast(pa.int64()).to_numpy()
        self._pushed = 0
        views: Declared = yaml.safe_load(application.spec.read_text())["feature_views"]
        self._views = {log: [name for name, view in views.items() if view["source"] == log] for log in LOGS}
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self._stub = features_pb2_grpc.FeaturesStub(self._channel)  # type: ignore[no-untyped-call]

    def fill(self) -> None:
        """All that was known before the test days; returns when every view shows it."""
        self._push(TRANSACTIONS, self._transactions)
        self.tell_labels(int(self.instants_us[0]))

    def tell_labels(self, now_us: int) -> None:
        """Labels that became known before `now_us`; returns when the views show them."""
        end = int(np.searchsorted(self._known_us, now_us))
        if end > self._pushed:
            self._push(LABELS, self._labels.slice(self._pushed, end - self._pushed))
            self._pushed = end

    def show_scored(self, index: int) -> None:
        """Returns when the views show this transaction of the test days, which the graph has appended: it is once more, and
        counts once."""
        self._push(TRANSACTIONS, self._scored.slice(index, 1))

    def close(self) -> None:
        """Hangs up."""
        self._channel.close()

    def _push(self, log: str, events: pa.Table) -> None:
        parts = events.combine_chunks().to_batches(max_chunksize=PUSH_ROWS)
        for number, batch in enumerate(parts):
            push(self._stub, log, batch, self._views[log] if number == len(parts) - 1 else [])


def push(stub: features_pb2_grpc.FeaturesStub, log: str, batch: pa.RecordBatch, waiting: list[str]) -> None:
    """One batch; returns when the views in `waiting` show it."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    request = features_pb2.PushRequest(log=log, arrow=sink.getvalue().to_pybytes())
    if waiting:
        request.wait_for.extend(waiting)
        request.wait_ms = WAIT_MS
    pending = stub.Push(request, timeout=2 * WAIT_MS / 1e3).pending
    assert not pending, f"{pending} have not caught up"


def check_answers(application: Application, port: int, past: Past) -> None:
    """Scores the first transactions one after the other. Raises WrongAnswerError where one is not what was expected: such an
    answer needs the features that those before it left."""
    expected = application.expected()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for index, frame in enumerate(read_frames(application.frames)[:CHECKED]):
            past.tell_labels(int(past.instants_us[index]))
            answer = answered(stub, service_pb2.ModelInferRequest.FromString(message_of(frame)))
            at = [each.name for each in answer.outputs].index("score")
            score = float(np.frombuffer(answer.raw_output_contents[at], "<f4")[0])
            if abs(score - expected.score[index]) > DIFFERENCE_MAX:
                told = f"the graph says {score}, the model {expected.score[index]}"
                raise WrongAnswerError(f"transaction {index}: {told}")


def answered(stub: service_pb2_grpc.GRPCInferenceServiceStub, request: service_pb2.ModelInferRequest) -> Any:  # noqa: ANN401
    """The answer; the first requests may meet code that is still being compiled, and are asked again."""
    for _ in range(COLD_TRIES):
        try:
            return stub.ModelInfer(request, timeout=10.0)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
            time.sleep(COLD_PAUSE_S)
    return stub.ModelInfer(request, timeout=10.0)


class Stream:
    """Frames of transactions that nobody has seen. All requests are alike but for their numbers, so bytes are patched."""

    def __init__(self, application: Application, out: Path) -> None:
        frames = read_frames(application.frames)[CHECKED:]
        size = np.bincount([len(each) for each in frames]).argmax()
        whole = [each for each in frames if len(each) == size]
        self._frames: Bytes = np.stack([np.frombuffer(each, np.uint8) for each in whole])
        asked = service_pb2.ModelInferRequest.FromString(message_of(whole[0]))
        names = [each.name for each in asked.inputs]
        self._number_at = place_of(whole[0], asked.raw_input_contents[names.index("transaction")])
        self._instant_at = place_of(whole[0], asked.raw_input_contents[names.index("at")])
        numbers = self._numbers(self._number_at)
        instants = self._numbers(self._instant_at)
        self._numbers_each = int(numbers.max()) + 1
        self._span_us = (int(instants.max() - instants.min()) // SPAN_US + 1) * SPAN_US
        self._out, self._block, self._run = out, 1, 0

    def fresh(self, count: int) -> Path:
        """A file of at least `count` frames."""
        self._run += 1
        file = self._out / f"run-{self._run % 2}.frames"
        with file.open("wb") as written:
            for _ in range(-(-count // len(self._frames))):
                written.write(self._moved(self._block).tobytes())
                self._block += 1
        return file

    def _numbers(self, at: int) -> npt.NDArray[np.int64]:
        found: npt.NDArray[np.int64] = np.ascontiguousarray(self._frames[:, at : at + 8]).view("<i8")[:, 0]
        return found

    def _moved(self, block: int) -> Bytes:
        moved = self._frames.copy()
        for at, step in ((self._number_at, self._numbers_each), (self._instant_at, self._span_us)):
            numbers = self._numbers(at) + block * step
            moved[:, at : at + 8] = numbers.astype("<i8").view(np.uint8).reshape(-1, 8)
        return moved


def place_of(frame: bytes, content: bytes) -> int:
    """Where these bytes are, which must be once."""
    assert frame.count(content) == 1, "a request's numbers cannot be told apart"
    return frame.index(content)
