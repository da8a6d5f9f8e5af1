"""What a collection of a store may be: one with a log of its own, or one that follows a topic."""

from __future__ import annotations

from engine.vectors.collection import Collection
from engine.vectors.followed import FollowedCollection

AnyCollection = Collection | FollowedCollection
