"""One view as its readers see it where its state is in shards, in other processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from engine.clock import Deadline
from engine.features.answer import FeatureRows, no_feature, no_request_input
from engine.features.lookup import checked_keys, one_key
from engine.features.lookup_tensors import LookupTensors
from engine.request import Ledger, Request, Response

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.features.view import View
    from engine.log.log import Offsets

Ask = Callable[[Request], Response]
"""Answers a request, which is waited for. Raises what it fails with."""


class ShardedView:
    """What is known here of such a view, and its lookups as requests and responses of the servable of its name. Any thread."""

    def __init__(self, view: View, entity_type: pa.DataType, ask: Ask) -> None:
        """Raises FailedPrecondition where its entities cannot be a tensor."""
        self.name, self.view, self.entity_type = view.name, view, entity_type
        self.tensors = LookupTensors(view, entity_type)
        self.features = self.tensors.names
        self._inputs = tuple(each.name for each in view.request)
        self._ask = ask

    def request(
        self,
        keys: pa.Array | int,
        *,
        as_of_us: int | npt.NDArray[np.int64] | None = None,
        request: Mapping[str, Any] | None = None,
        after: Offsets | None = None,
        deadline: Deadline = Deadline.NEVER,
    ) -> Request:
        """That looks `keys` up: see `FeatureView.lookup`. `after`: the answer is to show everything before these offsets."""
        if isinstance(keys, int):
            keys = one_key(self.name, self.entity_type, keys)
        keys = checked_keys(self.name, self.entity_type, keys, as_of_us)
        for name in request or ():
            if name not in self._inputs:
                raise no_request_input(self.name, name, self._inputs)
        asked = self.tensors.question(keys, as_of_us, request or {})
        return Request(self.name, asked, deadline=deadline, after=after or None)

    def rows(self, response: Response, features: Sequence[str] | None = None) -> FeatureRows:
        """What the response tells, of those `features` in this order (all, as declared). Raises InvalidArgument."""
        found = self.tensors.rows(response.outputs)
        if features is None:
            return found
        names = tuple(features)
        for name in names:
            if name not in self.features:
                raise no_feature(self.name, name, self.features)
        values = np.ascontiguousarray(found.values[:, [self.features.index(name) for name in names]])
        texts = {name: found.texts[name] for name in names if name in found.texts}
        return FeatureRows(names, values, texts, found.event_time_us, found.status)

    def lookup(
        self,
        keys: pa.Array | int,
        *,
        as_of_us: int | npt.NDArray[np.int64] | None = None,
        request: Mapping[str, Any] | None = None,
        features: Sequence[str] | None = None,
    ) -> FeatureRows:
        """As `FeatureView.lookup`; waits for the shards."""
        if isinstance(keys, int) or len(keys):
            return self.rows(self._ask(self.request(keys, as_of_us=as_of_us, request=request)), features)
        return self.rows(Response(self.name, 1, self.tensors.lost(0), Ledger(0)), features)
