"""An embedded host in a replica: on a thread with an event loop of its own, so that no request waits for Ray's. Knows no Ray."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

import uvloop

from engine import Link, Spec
from serving.embedded import EmbeddedHost

Result = TypeVar("Result")


class Doors:
    """One engine with the fronts of its spec. Methods may be awaited on any loop; `start` and `stop` once, in this order."""

    def __init__(self) -> None:
        self.host: EmbeddedHost | None = None
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vireo-doors", daemon=True)
        self._thread.start()

    async def start(self, spec: Spec, links: Mapping[str, Link]) -> EmbeddedHost:
        """Opens the ports, loads and warms everything. Raises what `EmbeddedHost.start` raises."""
        self.host = EmbeddedHost(spec, links)
        await self.run(self.host.start())
        return self.host

    async def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """What `work` gives on the loop of the doors."""
        begun: Future[Result] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return await asyncio.wrap_future(begun)

    async def stop(self) -> None:
        """Sends callers elsewhere, finishes what is in flight within the spec's bound, closes everything."""
        if self.host is not None:
            await self.run(self.host.leave())
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()
