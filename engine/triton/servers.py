"""The Triton servers that a spec names: how each model's are reached, and who is told when those that were away are back."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from engine.clock import Clock
from engine.errors import ModelLoadError, quoted
from engine.home import Home
from engine.triton.declaration import TritonModelSpec, TritonTlsSpec
from engine.triton.statistics import ServerStatistics

if TYPE_CHECKING:
    import ssl

    from engine.triton.fleet import Fleet


class TritonServers:
    """`on_change` is called with a model's name, on a thread of its own, when it is worth while to load it again: a server of one
    that could not be loaded answers, or all servers of one have another model now. Methods may be called from any thread."""

    def __init__(self, clock: Clock, home: Home) -> None:
        self.on_change: Callable[[str], None] = lambda _: None
        self._clock, self._home = clock, home
        self._folder = Path()
        self._awaited: dict[str, Fleet] = {}
        self._live: dict[str, Fleet] = {}
        self._lock = threading.Lock()

    def apply(self, models: Mapping[str, TritonModelSpec], folder: Path) -> None:
        """Follows a spec in `folder`: nobody waits any more for the servers of a model that is gone from it."""
        self._folder = folder
        for name in [each for each in self._awaited if each not in models]:
            self._forget(name)

    def fleet(self, name: str, spec: TritonModelSpec) -> Fleet:
        """The servers of one model, not yet started. Raises ModelLoadError where what they are reached with is not there."""
        from engine.triton.fleet import Fleet
        from engine.triton.replica import Access

        self._forget(name)
        access = Access(
            spec.model or name,
            spec.version,
            _tls(spec.tls, self._folder),
            _metadata(spec),
            shares_memory=spec.shared_memory == "auto",
        )
        hedge_ns = None if spec.hedge_ms is None else int(spec.hedge_ms * 1e6)
        return Fleet(
            spec.servers, access, home=self._home, clock=self._clock, idempotent=spec.idempotent, hedge_ns=hedge_ns
        )

    def await_return(self, name: str, fleet: Fleet) -> None:
        """The model could not be loaded: `on_change` is called when one of its servers answers."""
        with self._lock:
            self._awaited[name] = fleet

        def returned() -> None:
            if any(each.standing.ready for each in fleet.replicas):
                self.changed(name)

        fleet.changed = returned

    def serves(self, name: str, fleet: Fleet) -> None:
        """The model is loaded: from now on `statistics` tell of these servers, until they are closed."""
        with self._lock:
            self._live[name] = fleet

    def statistics(self) -> list[ServerStatistics]:
        """Each server of each model that is loaded."""
        with self._lock:
            self._live = {name: each for name, each in self._live.items() if not each.closed}
            live = list(self._live.items())
        return [
            ServerStatistics(name, each.address, each.standing.ready, each.problem, each.counts, each.shared_requests)
            for name, fleet in live
            for each in fleet.replicas
        ]

    def changed(self, name: str) -> None:
        """Calls `on_change`, which may take long, on a thread of its own."""
        threading.Thread(target=self.on_change, args=(name,), name="vireo-triton-changed", daemon=True).start()

    def _forget(self, name: str) -> None:
        with self._lock:
            fleet = self._awaited.pop(name, None)
        if fleet is not None:
            fleet.close()

    def close(self) -> None:
        """Waits for nothing any more."""
        self.on_change = lambda _: None
        for name in list(self._awaited):
            self._forget(name)


def _metadata(spec: TritonModelSpec) -> dict[str, str]:
    told = dict(spec.metadata)
    if spec.token_env is not None:
        token = os.environ.get(spec.token_env)
        if not token:
            raise ModelLoadError(f"token_env: there is no environment variable {quoted(spec.token_env)}")
        told["authorization"] = f"Bearer {token}"
    return told


def _tls(spec: TritonTlsSpec | None, folder: Path) -> ssl.SSLContext | None:
    if spec is None:
        return None
    import ssl

    try:
        made = ssl.create_default_context(cafile=None if spec.ca is None else str(folder / spec.ca))
        made.set_alpn_protocols(["h2"])
        if spec.certificate is not None and spec.key is not None:
            made.load_cert_chain(str(folder / spec.certificate), str(folder / spec.key))
    except (OSError, ssl.SSLError) as error:
        raise ModelLoadError(f"tls: {error}") from error
    return made
