"""Callers over gRPC, by grpcio's own client: patient, impatient, streaming, watching, and one that moves models.

Each acts on one thread. `act` does one thing and tells what came of it; failures that are no gRPC status are raised.
"""

import threading
import time
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks.fraud_inputs import MODEL
from benchmarks.soak.grpc_form import judge, request_of
from benchmarks.soak.outcome import WRONG, Caller, Outcome
from benchmarks.soak.questions import Question, Questions
from benchmarks.soak.served import COMING_AND_GOING

PATIENCE_S = 60.0
"""A call that takes longer has failed."""

RENEWAL = 0.02
"""The chance that a caller leaves before an act and comes back on a new connection."""

OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # else a channel shares the connection of another
    ("grpc.enable_retries", 0),
]
LATE = frozenset({"DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"})
"""What a hopeless deadline may be told: that it passed, or on arrival that it will."""


class Client:
    """A channel with its stubs, which can be given up for a new one."""

    def __init__(self, port: int) -> None:
        self._address = f"127.0.0.1:{port}"
        self._open()

    def _open(self) -> None:
        self.channel = grpc.insecure_channel(self._address, options=OPTIONS)
        self.infer = service_pb2_grpc.GRPCInferenceServiceStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(self.channel)

    def renew(self) -> None:
        """Leaves, whatever is in flight, and comes back."""
        self.channel.close()
        self._open()

    def close(self) -> None:
        """Leaves."""
        self.channel.close()


def outcome_of(error: grpc.RpcError, allowed: frozenset[str] = frozenset()) -> Outcome:
    """The status of a failed call."""
    call: Any = error
    kind = call.code().name
    return Outcome(kind, kind in allowed, f"{kind}: {call.details()}")


class GrpcCaller:
    """What callers over gRPC share."""

    def __init__(self, port: int, questions: Questions) -> None:
        self.client = Client(port)
        self.questions = questions
        self.rng: Random = questions.rng
        self._asked = 0

    def next_id(self) -> str:
        """An id not used before; none every other time."""
        self._asked += 1
        return str(self._asked) if self._asked % 2 else ""

    def close(self) -> None:
        """Leaves."""
        self.client.close()

    def ask(
        self, question: Question, *, timeout_s: float = PATIENCE_S, allowed: frozenset[str] = frozenset()
    ) -> Outcome:
        """One unary call, its answer judged."""
        request_id = self.next_id()
        compression = grpc.Compression.Gzip if self.rng.random() < 0.05 else None
        try:
            response = self.client.infer.ModelInfer(
                request_of(question, request_id), timeout=timeout_s, compression=compression
            )
        except grpc.RpcError as error:
            return outcome_of(error, allowed)
        return judge(question, response, request_id)


class PatientCaller(GrpcCaller):
    """Asks and waits for the answer."""

    def act(self) -> Outcome:
        """One question of any kind."""
        if self.rng.random() < RENEWAL:
            self.client.renew()
        if self.rng.random() < 0.05:
            outcome = self.ask(self.questions.refused(), allowed=frozenset({"INVALID_ARGUMENT"}))
            return outcome if outcome.kind != "OK" else Outcome(WRONG, False, "not refused")
        return self.ask(self.questions.any())


class ImpatientCaller(GrpcCaller):
    """Gives up: by a deadline shorter than the work, by a word, by leaving."""

    def act(self) -> Outcome:
        """One of the three."""
        return self.rng.choice([self._deadline, self._deadline, self._cancel, self._leave])()

    def _work(self) -> Question:
        """Something that is not done at once."""
        if self.rng.random() < 0.3:
            return self.questions.negate(1 << self.rng.randint(16, 22))
        return self.questions.slow(self.rng.randint(20, 150))

    def _deadline(self) -> Outcome:
        return self.ask(self._work(), timeout_s=self.rng.uniform(0.0005, 0.04), allowed=LATE)

    def _begin(self) -> tuple[Question, Any]:
        question = self._work()
        return question, self.client.infer.ModelInfer.future(request_of(question), timeout=PATIENCE_S)

    def _cancel(self) -> Outcome:
        question, future = self._begin()
        time.sleep(self.rng.uniform(0, 0.03))
        future.cancel()
        return self._ended(question, future)

    def _leave(self) -> Outcome:
        begun = [self._begin() for _ in range(self.rng.randint(1, 6))]
        time.sleep(self.rng.uniform(0, 0.05))
        self.client.renew()
        outcomes = [self._ended(*each) for each in begun]
        return next((each for each in outcomes if not each.fine), outcomes[-1])

    def _ended(self, question: Question, future: Any) -> Outcome:  # noqa: ANN401  grpcio's future
        try:
            return judge(question, future.result(timeout=PATIENCE_S))
        except grpc.FutureCancelledError:
            return Outcome("CANCELLED", True)
        except grpc.RpcError as error:
            return outcome_of(error, frozenset({"CANCELLED"}))


class StreamingCaller(GrpcCaller):
    """Holds streams: whole ones, ones dropped half-way, ones read slowly and then dropped."""

    REQUESTS_MAX = 12

    def act(self) -> Outcome:
        """One stream."""
        return self.rng.choice([self._whole, self._whole, self._dropped, self._countdown, self._slow_reader])()

    def _whole(self) -> Outcome:
        """Every answer is read; the stream is half closed before the first, or held open until the last."""
        questions = self._some()
        held = self.rng.random() < 0.5
        answered = threading.Event()
        call = self._open(questions, answered if held else None)
        try:
            for number, question in enumerate(questions):
                outcome = self._judged(question, next(call), str(number))
                if not outcome.fine:
                    return outcome
            answered.set()
            surplus = next(call, None)
            return Outcome("OK", True) if surplus is None else Outcome(WRONG, False, "more answers than questions")
        except StopIteration:
            return Outcome(WRONG, False, "fewer answers than questions")
        except grpc.RpcError as error:
            return outcome_of(error)
        finally:
            answered.set()

    def _dropped(self) -> Outcome:
        """Left after some of the answers, by a word or by closing the connection."""
        questions = self._some()
        answered = threading.Event()
        call = self._open(questions, answered)
        try:
            for number, question in enumerate(questions[: self.rng.randint(0, len(questions))]):
                outcome = self._judged(question, next(call), str(number))
                if not outcome.fine:
                    return outcome
        except grpc.RpcError as error:
            return outcome_of(error)
        finally:
            self._leave(call)
            answered.set()
        return Outcome("dropped", True)

    def _countdown(self) -> Outcome:
        """A model with many answers to one request; sometimes dropped before the last."""
        start = self.rng.randint(1, 60)
        wanted = self.rng.choice([start, self.rng.randint(1, start)])
        request = service_pb2.ModelInferRequest(model_name="countdown")
        request.inputs.add(name="start", datatype="INT32", shape=[1])
        request.raw_input_contents.append(start.to_bytes(4, "little"))
        call = self.client.infer.ModelStreamInfer(iter([request]), timeout=PATIENCE_S)
        values: list[int] = []
        try:
            for answer in call:
                values.append(int.from_bytes(answer.infer_response.raw_output_contents[0][:4], "little"))
                if len(values) == wanted < start:
                    break
        except grpc.RpcError as error:
            return outcome_of(error)
        finally:
            self._leave(call)
        right = values == list(range(start, start - wanted, -1))
        return Outcome("OK", True) if right else Outcome(WRONG, False, f"countdown from {start}: {values}")

    def _slow_reader(self) -> Outcome:
        """Asks for megabytes, takes little of them, and leaves."""
        questions = [self.questions.fill(1 << 20) for _ in range(self.rng.randint(2, 8))]
        answered = threading.Event()
        call = self._open(questions, answered)
        try:
            outcome = self._judged(questions[0], next(call), "0")
            time.sleep(self.rng.uniform(0, 1))
        except grpc.RpcError as error:
            return outcome_of(error)
        finally:
            self._leave(call)
            answered.set()
        return outcome if not outcome.fine else Outcome("dropped", True)

    def _some(self) -> list[Question]:
        return [self.questions.any() for _ in range(self.rng.randint(1, self.REQUESTS_MAX))]

    def _open(self, questions: list[Question], held_until: threading.Event | None) -> Iterator[Any]:
        def requests() -> Iterator[Any]:
            for number, question in enumerate(questions):
                yield request_of(question, str(number))
            if held_until is not None:
                held_until.wait(PATIENCE_S)

        stream: Iterator[Any] = self.client.infer.ModelStreamInfer(requests(), timeout=PATIENCE_S)
        return stream

    def _judged(self, question: Question, answer: Any, request_id: str) -> Outcome:  # noqa: ANN401
        if answer.error_message:
            return Outcome("stream error", False, answer.error_message)
        return judge(question, answer.infer_response, request_id)

    def _leave(self, call: Any) -> None:  # noqa: ANN401
        if self.rng.random() < 0.5:
            call.cancel()
        else:
            self.client.renew()


class Watcher(GrpcCaller):
    """Watches the server's health for a while."""

    def act(self) -> Outcome:
        """One watch. While a model is being loaded the server is not ready, so either status is right."""
        call = self.client.health.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
        try:
            status = next(call).status
        except grpc.RpcError as error:
            return outcome_of(error)
        time.sleep(self.rng.uniform(0, 2))
        if self.rng.random() < 0.5:
            call.cancel()
        else:
            self.client.renew()
        name = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
        return Outcome(name, name in ("SERVING", "NOT_SERVING"))


class Mover(GrpcCaller):
    """Takes a model out of service and puts it back; asks what there is meanwhile."""

    def act(self) -> Outcome:
        """One round."""
        stub, rest = self.client.infer, self.rng.uniform(0.1, 1.0)
        time.sleep(self.rng.uniform(0.1, 1.0))
        try:
            stub.RepositoryModelUnload(
                service_pb2.RepositoryModelUnloadRequest(model_name=COMING_AND_GOING), timeout=PATIENCE_S
            )
            time.sleep(rest)
            index = stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(ready=True), timeout=PATIENCE_S)
            stub.RepositoryModelLoad(
                service_pb2.RepositoryModelLoadRequest(model_name=COMING_AND_GOING), timeout=PATIENCE_S
            )
            ready = stub.ModelReady(service_pb2.ModelReadyRequest(name=COMING_AND_GOING), timeout=PATIENCE_S).ready
        except grpc.RpcError as error:
            return outcome_of(error)
        names = {each.name for each in index.models}
        right = ready and MODEL in names and COMING_AND_GOING not in names
        return Outcome("OK", True) if right else Outcome(WRONG, False, f"ready: {ready}, index: {names}")


class Follower(GrpcCaller):
    """Asks the model that comes and goes."""

    ALLOWED = frozenset({"NOT_FOUND", "UNAVAILABLE"})

    def act(self) -> Outcome:
        """One question."""
        return self.ask(self.questions.fraud(COMING_AND_GOING), allowed=self.ALLOWED)


GRPC_CALLERS: dict[str, Callable[[int, Questions], Caller]] = {
    "patient": PatientCaller,
    "impatient": ImpatientCaller,
    "streams": StreamingCaller,
    "watcher": Watcher,
    "mover": Mover,
    "follower": Follower,
}
