"""A feature view as a servable: entities in, a matrix of their features out, with what is null, missing or stale said.

Which tensors, `engine.features.lookup_tensors` says.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.errors import ModelLoadError, VireoError
from engine.features.declaration import FeatureViewSpec
from engine.features.lookup import FeatureView
from engine.features.lookup_tensors import AS_OF, LookupTensors
from engine.features.store import FeatureStore
from engine.servables.servable import Tensors, Traits


class FeatureLookup:
    """Looks up a view that it owns: closing it closes the view. Any number of threads."""

    def __init__(self, view: FeatureView) -> None:
        self.view = view
        self._tensors = LookupTensors(view.view, view.entity_type)
        self.signature = self._tensors.signature
        self.traits = Traits("vireo_feature_view", "every entity is looked up alone", self._tensors.notes)

    def execute(self, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """See `Servable.execute`. Raises Unavailable while the view is restoring."""
        as_of = inputs.get(AS_OF)
        rows = self.view.lookup(
            self._tensors.keys(inputs),
            as_of_us=None if as_of is None else as_of.array,
            request=self._tensors.request(inputs),
        )
        return self._tensors.answer(rows, outputs)

    def close(self) -> None:
        """Ends the view."""
        self.view.close()


def load_feature_lookup(store: FeatureStore, name: str, spec: FeatureViewSpec) -> FeatureLookup:
    """The view `name`, opened. Raises ModelLoadError."""
    view = store.open_view(name, spec)
    try:
        return FeatureLookup(view)
    except VireoError as error:
        view.close()
        raise ModelLoadError(error.message) from error
