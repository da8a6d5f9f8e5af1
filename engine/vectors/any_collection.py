"""What a collection of a store may be: one with a log of its own, one that follows a topic, or one in shards elsewhere."""

from __future__ import annotations

from engine.vectors.collection import Collection
from engine.vectors.followed import FollowedCollection
from engine.vectors.sharded import ShardedCollection

AnyCollection = Collection | FollowedCollection | ShardedCollection
