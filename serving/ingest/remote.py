"""A running server as what documents go to, over HTTP."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import numpy as np
import orjson

from engine import (
    CollectionSpec,
    EmbedderSpec,
    FailedPrecondition,
    InvalidArgument,
    PointId,
    Unavailable,
    collection_spec_of,
    limits,
    quoted,
)
from serving.ingest.target import PROMPT, Payloads, Point, Vectors, filter_of, text_tensors
from serving.long_run import ServerAddress
from serving.status import error_named


class ServerTarget:
    """A collection of a server; embedded by the server's own models, in the class of requests for which nobody waits."""

    def __init__(self, address: ServerAddress, name: str, tenant: str | None) -> None:
        """Raises InvalidArgument for what is no URL; NotFound, Unavailable, Unauthenticated."""
        self._connection = _connection(address)
        self._base = urlsplit(address.target).path.rstrip("/")
        self._headers = {"content-type": "application/json"} | address.headers
        self._path = f"/v1/collections/{quote(name, safe='')}"
        self._tenant = "" if tenant is None else f"?{urlencode({'tenant': tenant})}"
        self._tensors: dict[str, tuple[str, str]] = {}
        described = self._ask("GET", self._path)
        if described.get("problem"):
            raise FailedPrecondition(f"collection {quoted(name)}: {described['problem']}")
        self._collection = collection_spec_of(described["spec"])

    @property
    def collection(self) -> CollectionSpec:
        """See Target."""
        return self._collection

    def embed(self, embedder: EmbedderSpec, prompt: str | None, texts: Sequence[str]) -> Vectors:
        """See Target."""
        path = f"/v2/models/{quote(embedder.model, safe='')}/versions/{embedder.version}"
        if embedder.model not in self._tensors:
            told = self._ask("GET", path)
            inputs, outputs = (
                [(each["name"], each["datatype"]) for each in told[side]] for side in ("inputs", "outputs")
            )
            self._tensors[embedder.model] = text_tensors(embedder.model, inputs, outputs)
        text, embedding = self._tensors[embedder.model]
        columns = {text: list(texts)} | ({} if prompt is None else {PROMPT: [prompt] * len(texts)})
        tensors = [
            {"name": name, "datatype": "BYTES", "shape": [len(column)], "data": column}
            for name, column in columns.items()
        ]
        answer = self._ask("POST", f"{path}/infer", {"inputs": tensors, "outputs": [{"name": embedding}]})
        (found,) = answer["outputs"]
        return np.array(found["data"], np.float32).reshape(found["shape"])

    def upsert(self, points: Sequence[Point]) -> None:
        """See Target."""
        self._ask("PUT", f"{self._path}/points{self._tenant}", {"points": points})

    def set_payload(self, ids: Sequence[PointId], values: Mapping[str, Any]) -> None:
        """See Target."""
        self._ask("POST", f"{self._path}/points/payload{self._tenant}", {"payload": values, "ids": ids})

    def delete(self, ids: Sequence[PointId]) -> None:
        """See Target."""
        self._ask("POST", f"{self._path}/points/delete{self._tenant}", {"ids": ids})

    def get(self, ids: Sequence[PointId], fields: Sequence[str]) -> Payloads:
        """See Target."""
        return _payloads(self._ask("POST", f"{self._path}/points/get{self._tenant}", {"ids": ids, "payload": fields}))

    def scroll(
        self, where: Mapping[str, str], fields: Sequence[str], after: PointId | None
    ) -> tuple[Payloads, PointId | None]:
        """See Target."""
        wanted = filter_of(where) if where else None
        body = {"filter": wanted, "limit": limits.INGEST_LOOKUPS_MAX, "after": after, "payload": fields}
        answer = self._ask("POST", f"{self._path}/scroll{self._tenant}", body)
        return _payloads(answer), answer["next"]

    def close(self) -> None:
        """See Target."""
        self._connection.close()

    def _ask(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401  JSON
        """What the server answers. Raises what it means by its error; Unavailable where it cannot be reached."""
        content = None if body is None else orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
        try:
            self._connection.request(method, self._base + path, content, self._headers)
            answer = self._connection.getresponse()
            told = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()  # the next call opens it again
            raise Unavailable(f"the server cannot be reached: {str(error) or type(error).__name__}") from error
        try:
            found = orjson.loads(told)
        except orjson.JSONDecodeError:
            found = None
        if answer.status == http.client.OK and found is not None:
            return found
        if not isinstance(found, dict) or "error" not in found:
            raise FailedPrecondition(
                f"the server answers {method} {path} with {answer.status} and no JSON: is it Vireo's?"
            )
        raise error_named(str(found.get("code")))(f"the server says {found.get('code')}: {found['error']}")


def _connection(address: ServerAddress) -> http.client.HTTPConnection:
    parts = urlsplit(address.target)
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidArgument(f"--url: {error}") from error
    if parts.scheme not in ("http", "https") or not host:
        raise InvalidArgument(f"--url: expected http://HOST:PORT or https://HOST:PORT, got {quoted(address.target)}")
    timeout_s = limits.BATCH_REQUEST_S_MAX
    if parts.scheme == "http":
        if address.ca is not None:
            raise InvalidArgument("--ca: is for an https:// URL")
        return http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        context = ssl.create_default_context(cafile=None if address.ca is None else str(address.ca))
    except OSError as error:
        raise InvalidArgument(f"--ca: {address.ca} cannot be read as certificates: {error}") from error
    return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)


def _payloads(answer: Mapping[str, Any]) -> Payloads:
    return {each["id"]: each["payload"] for each in answer["points"]}
