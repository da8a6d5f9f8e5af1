"""A running server as what answers a batch run, by the Open Inference Protocol over gRPC: Vireo's, Triton's or another's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

from engine import (
    FailedPrecondition,
    Signature,
    Tensor,
    TensorSpec,
    datatype_named,
    limits,
    quoted,
)
from serving.long_run import ServerAddress
from serving.status import error_named


class ServerScorer:
    """Scores on a server, by requests of the class `batch`, which go behind those that somebody waits for."""

    def __init__(self, address: ServerAddress, model: str, version: int | None) -> None:
        """Raises NotFound, Unavailable, Unauthenticated, FailedPrecondition."""
        self._headers = address.headers
        ca = None if address.ca is None else str(address.ca)
        self._client = triton.InferenceServerClient(address.target, ssl=ca is not None, root_certificates=ca)
        self.model = model
        asked = "" if version is None else str(version)
        metadata = self._ask(self._client.get_model_metadata, model, asked, headers=self._headers)
        config = self._ask(self._client.get_model_config, model, asked, headers=self._headers).config
        if config.model_transaction_policy.decoupled:
            raise FailedPrecondition(f"model {quoted(model)} answers one request with many responses: not in batches")
        self.version = version or max(map(int, metadata.versions), default=1)
        optional = {each.name for each in config.input if each.optional}
        self.signature = Signature(
            tuple(_spec(each, optional=each.name in optional) for each in metadata.inputs),
            tuple(_spec(each) for each in metadata.outputs),
            batchable=config.max_batch_size > 0,
            rows_max=config.max_batch_size or None,
        )
        self.identity: dict[str, Any] = {"name": model, "version": self.version, "server": address.target}

    def _ask(self, call: Any, *arguments: object, **options: object) -> Any:  # noqa: ANN401  protobuf messages
        try:
            return call(*arguments, **options)
        except InferenceServerException as error:
            status = str(error.status()).removeprefix("StatusCode.")
            raise error_named(status)(f"the server says {status}: {error.message()}") from error

    def score(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> Mapping[str, Tensor]:
        """See Scorer."""
        result = self._ask(
            self._client.infer, self.model, [_input(name, each) for name, each in inputs.items()], str(self.version),
            [triton.InferRequestedOutput(name) for name in outputs],
            headers=self._headers, client_timeout=limits.BATCH_REQUEST_S_MAX,
        )  # fmt: skip
        answer = result.get_response()
        if answer.model_version and int(answer.model_version) != self.version:
            raise FailedPrecondition(f"version {answer.model_version} answered, {self.version} was asked")
        raws = answer.raw_output_contents
        return {
            each.name: Tensor.from_raw(each.name, datatype_named(each.datatype, of=each.name), tuple(each.shape), raw)
            for each, raw in zip(answer.outputs, raws, strict=True)
        }

    def close(self) -> None:
        """See Scorer."""
        self._client.close()


def _spec(message: Any, *, optional: bool = False) -> TensorSpec:  # noqa: ANN401
    return TensorSpec(message.name, datatype_named(message.datatype, of=message.name), tuple(message.shape), optional)


def _input(name: str, tensor: Tensor) -> Any:  # noqa: ANN401
    made = triton.InferInput(name, list(tensor.shape), tensor.datatype.name)
    made.set_data_from_numpy(tensor.values)
    return made
