"""What an embedded host adds where its spec declares logs or feature views: methods, endpoints, metrics."""

from __future__ import annotations

from serving.dispatch import Dispatch
from serving.event_push import Pushes
from serving.features_endpoints import FeaturesEndpoints
from serving.features_metrics import FeaturesCollector
from serving.features_service import SERVICE, FeaturesService
from serving.http_app import Endpoint
from serving.methods import Method


class FeaturesFronts:
    """One set of pushes behind every front."""

    name = SERVICE

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self._pushes = Pushes(dispatch)
        self._service = FeaturesService(dispatch, self._pushes)

    def methods(self) -> list[Method]:
        """Of gRPC."""
        return self._service.methods()

    def endpoints(self) -> list[Endpoint]:
        """Of HTTP."""
        return FeaturesEndpoints(self._dispatch, self._service, self._pushes).endpoints()

    def collector(self) -> FeaturesCollector:
        """For `/metrics`."""
        return FeaturesCollector(self._dispatch.engine)

    def close(self) -> None:
        """Takes no more pushes."""
        self._pushes.close()
