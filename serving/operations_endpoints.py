"""What operators ask for over HTTP: probes, metrics, and the description of the API."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from engine import Engine, ModelDescription, NotFound, Unavailable
from serving.http_app import TEXT, Endpoint, HttpCall, Reply, json_reply
from serving.metrics import Exposition
from serving.openapi import PAGE, document


class OperationsEndpoints:
    """The endpoints over one engine."""

    def __init__(self, engine: Engine, exposition: Exposition, described: Sequence[Endpoint]) -> None:
        self._engine = engine
        self._exposition = exposition
        self._described = described

    def endpoints(self) -> list[Endpoint]:
        """Every endpoint."""
        return [
            Endpoint("GET", "/livez", self._livez, "Whether the process runs", open_to_all=True, gives=TEXT),
            Endpoint(
                "GET", "/readyz", self._readyz, "Whether every wanted model answers", open_to_all=True, gives=TEXT
            ),
            Endpoint("GET", "/metrics", self._metrics, "Metrics for Prometheus", gives=TEXT),
            Endpoint("GET", "/openapi.json", self._openapi, "This API's description"),
            Endpoint(
                "GET", "/docs", self._docs, "This API's description as a page", open_to_all=True, gives="text/html"
            ),
        ]

    async def _livez(self, call: HttpCall) -> Reply:
        return Reply(b"ok\n", f"{TEXT}; charset=utf-8")

    async def _readyz(self, call: HttpCall) -> Reply:
        if self._engine.ready:
            return Reply(b"ok\n", f"{TEXT}; charset=utf-8")
        problems = self._engine.problems() or {"server": "not accepting requests"}
        text = "".join(f"{name}: {reason}\n" for name, reason in sorted(problems.items()))
        return Reply(text.encode(errors="replace"), f"{TEXT}; charset=utf-8", 503)

    async def _metrics(self, call: HttpCall) -> Reply:
        body, content_type = self._exposition.render(call.headers().get("accept", ""))
        return Reply(body, content_type, packable=True)

    async def _openapi(self, call: HttpCall) -> Reply:
        endpoints = [*self._described, *self.endpoints()]
        server = self._engine.spec.server
        described = document(server.name, endpoints, self._models(), locked=server.auth is not None)
        return replace(json_reply(described), packable=True)

    def _models(self) -> list[ModelDescription]:
        found = []
        for name in sorted({name for name, _, _ in self._engine.statistics()}):
            with suppress(NotFound, Unavailable):  # unloaded meanwhile
                found.append(self._engine.describe(name, None))
        return found

    async def _docs(self, call: HttpCall) -> Reply:
        policy = ("content-security-policy", _POLICY)
        return Reply(PAGE.encode(), "text/html; charset=utf-8", headers=(policy,), packable=True)


_POLICY = "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"
