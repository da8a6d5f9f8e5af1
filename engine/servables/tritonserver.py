"""A model that lives on one or several Triton servers, as a servable. Names, datatypes and shapes are the servers' own.

Triton batches, so nothing is gathered here; a request waits for its answer, not for a thread.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import partial
from itertools import islice

from engine.clock import NEVER_NS
from engine.errors import Internal, ModelLoadError, Unimplemented, VireoError, quoted
from engine.limits import TRITON_CALL_S_MAX, TRITON_LOAD_S_MAX
from engine.request import Request
from engine.servables.servable import RemoteCall, Tensors, Told, Traits, answer_of
from engine.servables.signature import Signature
from engine.triton.declaration import TritonModelSpec
from engine.triton.fleet import Fleet
from engine.triton.messages import RequestWriter, ResponseReader, answered, ask, signature_of
from engine.triton.replica import unreachable
from engine.triton.servers import TritonServers
from engine.work import current_work

log = logging.getLogger("vireo.triton")

_INFER, _STREAM = "ModelInfer", "ModelStreamInfer"


class TritonModel:
    """See `RemoteServable`. `execute` sends a request and waits for it."""

    def __init__(self, spec: TritonModelSpec, name: str, fleet: Fleet, signature: Signature, traits: Traits) -> None:
        self._name, self._clock, self.fleet = name, fleet.clock, fleet
        self.signature, self.traits = signature, traits
        decoupled = isinstance(self, TritonStream)
        shared_bytes_min = None if decoupled or spec.shared_memory == "off" else spec.shared_memory_bytes_min
        self._writer = RequestWriter(
            name, spec.version, signature, decoupled=decoupled, shared_bytes_min=shared_bytes_min
        )
        self._reader = ResponseReader(name, signature)

    def send(self, request: Request, deadline_ns: int, told: Told) -> RemoteCall:
        """See `RemoteServable.send`."""
        outputs = request.outputs
        timeout_us = None
        if deadline_ns != NEVER_NS:
            timeout_us = max(1, (deadline_ns - self._clock()) // 1_000)
        body = self._writer.write(request.inputs, outputs, timeout_us, request.layout)
        read = self._reader.read if isinstance(body, bytes) else partial(self._reader.read_shared, body)
        return self.fleet.begin(_INFER, body, deadline_ns, partial(_answer, read, outputs, told))

    def flush(self) -> None:
        """See `RemoteServable.flush`."""
        self.fleet.flush()

    def execute(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """See `Servable.execute`; waits for TRITON_CALL_S_MAX at most."""
        request = Request(self._name, inputs, outputs=tuple(outputs))
        return answer_of(self, request, self._clock() + int(TRITON_CALL_S_MAX * 1e9))

    def fits(self) -> bool:
        """See `BoundServable`: false where the servers have another model by now than when it was loaded."""
        replicas = self.fleet.replicas
        return any(each.standing.ready for each in replicas) or not any(each.differs for each in replicas)

    def close(self) -> None:
        """Ends the connections."""
        self.fleet.close()


def _answer(
    read: Callable[[bytes, Sequence[str]], Tensors], outputs: Sequence[str], told: Told, outcome: bytes | VireoError
) -> None:
    """Tells what the message that answers says."""
    found: Tensors | VireoError
    if isinstance(outcome, bytes):
        try:
            found = read(outcome, outputs)
        except VireoError as error:
            found = error
        except Exception as error:  # of ours: who waits must hear of it
            log.exception("an answer of Triton's cannot be read")
            found = Internal(f"internal error: {type(error).__name__}")
    else:
        found = outcome
    told(found)


class TritonStream(TritonModel):
    """A model that answers one request with any number of responses (decoupled, as Triton says)."""

    def stream(self, inputs: Tensors, outputs: Sequence[str]) -> Generator[Tensors, None, None]:
        """See `StreamingServable.stream`."""
        work = current_work()
        deadline_ns = NEVER_NS if work is None else work.deadline.at_ns
        body = self._writer.whole(inputs, outputs, None)
        parts: queue.SimpleQueue[bytes | VireoError | None] = queue.SimpleQueue()

        def done(outcome: bytes | VireoError) -> None:
            parts.put(outcome if isinstance(outcome, VireoError) else None)

        call = self.fleet.begin(_STREAM, body, deadline_ns, done, parts.put)
        self.flush()
        try:
            while (part := parts.get()) is not None:
                if isinstance(part, VireoError):
                    raise part
                tensors, last = self._reader.read_streamed(part, outputs)
                if tensors is not None:
                    yield tensors
                if last:
                    return
        finally:
            call.cancel()

    def execute(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """The one response; Unimplemented where there is not exactly one."""
        with closing(self.stream(inputs, outputs)) as stream:
            answers = list(islice(stream, 2))
        if len(answers) != 1:
            gave = "more than one response" if answers else "no response"
            raise Unimplemented(f"the model gave {gave}; a unary call needs exactly 1, a stream any")
        return answers[0]


def load_triton(servers: TritonServers, name: str, spec: TritonModelSpec) -> TritonModel:
    """The model, once one of its servers answers for it. Raises ModelLoadError after TRITON_LOAD_S_MAX; then `servers` tells when
    it is worth while to try again."""
    fleet = servers.fleet(name, spec)
    try:
        return _loaded(servers, name, spec, fleet)
    except BaseException:
        servers.await_return(name, fleet)
        raise


def _loaded(servers: TritonServers, name: str, spec: TritonModelSpec, fleet: Fleet) -> TritonModel:
    model = spec.model or name
    heard = threading.Event()
    fleet.changed = heard.set
    fleet.start()
    first = _first_ready(fleet, heard)
    metadata = answered("ModelMetadata", first)
    asked = _ask(fleet, "ModelConfig", ask("ModelConfig", model, spec.version))
    config = answered("ModelConfig", asked).config
    signature = signature_of(metadata, config)
    decoupled = bool(config.model_transaction_policy.decoupled)
    versions = ", ".join(metadata.versions)
    traits = Traits(
        "triton",
        f"Triton batches ({'dynamic batching' if config.HasField('dynamic_batching') else 'one request at a time'})",
        (
            f"model {quoted(model)} on {', '.join(spec.servers)}; versions there: {versions}; there it is "
            f"{metadata.platform or config.backend}",
        ),
    )
    made = (TritonStream if decoupled else TritonModel)(spec, model, fleet, signature, traits)

    def judge(message: bytes) -> str | None:
        told = signature_of(answered("ModelMetadata", message), config)
        return None if told == signature else "has a model of other tensors under that name"

    def renew() -> None:
        if not made.fits():
            servers.changed(name)

    fleet.judge_by(judge)
    fleet.changed = renew
    servers.serves(name, fleet)
    return made


def _first_ready(fleet: Fleet, heard: threading.Event) -> bytes:
    """What the first server that answers says of the model."""
    end_ns = fleet.clock() + int(TRITON_LOAD_S_MAX * 1e9)
    while True:
        heard.clear()
        for each in fleet.replicas:
            if each.standing.ready:
                return each.metadata
        refused = all(each.refused for each in fleet.replicas)
        if refused or not heard.wait(max(0.0, (end_ns - fleet.clock()) / 1e9)):
            raise ModelLoadError(f"none of its Triton servers answers: {unreachable(fleet.replicas)}")


def _ask(fleet: Fleet, method: str, body: bytes) -> bytes:
    here: queue.SimpleQueue[bytes | VireoError] = queue.SimpleQueue()
    fleet.begin(method, body, fleet.clock() + int(TRITON_LOAD_S_MAX * 1e9), here.put)
    fleet.flush()
    outcome = here.get()
    if isinstance(outcome, VireoError):
        raise ModelLoadError(f"{method}: {outcome.message}") from outcome
    return outcome
