"""What an embedded host adds where its spec declares language models: methods, endpoints, metrics."""

from __future__ import annotations

from serving.dispatch import Dispatch
from serving.http_app import Endpoint
from serving.language_calls import LanguageCalls
from serving.language_endpoints import LanguageEndpoints
from serving.language_metrics import LanguageCollector
from serving.language_service import SERVICE, LanguageService
from serving.methods import Method


class LanguageFronts:
    """One way into the language models behind every front."""

    name = SERVICE

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self._calls = LanguageCalls(dispatch)

    def methods(self) -> list[Method]:
        """Of gRPC."""
        return LanguageService(self._calls).methods()

    def endpoints(self) -> list[Endpoint]:
        """Of HTTP."""
        return LanguageEndpoints(self._calls).endpoints()

    def collector(self) -> LanguageCollector:
        """For `/metrics`."""
        return LanguageCollector(self._dispatch.engine)

    def close(self) -> None:
        """Nothing of theirs outlives the calls."""
