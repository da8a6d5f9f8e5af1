"""What an embedded host adds where its spec declares vector collections: methods, endpoints, metrics."""

from __future__ import annotations

from serving.dispatch import Dispatch
from serving.http_app import Endpoint
from serving.methods import Method
from serving.vectors_endpoints import VectorsEndpoints
from serving.vectors_metrics import VectorsCollector
from serving.vectors_service import SERVICE, VectorsService
from serving.vectors_work import VectorsWork


class VectorsFronts:
    """One set of threads behind every front."""

    name = SERVICE

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self._work = VectorsWork(dispatch)

    def methods(self) -> list[Method]:
        """Of gRPC."""
        return VectorsService(self._dispatch, self._work).methods()

    def endpoints(self) -> list[Endpoint]:
        """Of HTTP."""
        return VectorsEndpoints(self._dispatch, self._work).endpoints()

    def collector(self) -> VectorsCollector:
        """For `/metrics`."""
        return VectorsCollector(self._dispatch.engine)

    def close(self) -> None:
        """Waits for what was begun."""
        self._work.close()
