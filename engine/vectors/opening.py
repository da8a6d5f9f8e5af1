"""Opens the collections of a store: those with a log of their own, and those that follow a topic."""

from __future__ import annotations

import logging
from itertools import count
from pathlib import Path

from engine.errors import FailedPrecondition, Internal, Unavailable, VireoError, quoted
from engine.limits import FEATURE_RESTORE_S_MAX
from engine.log.declaration import ShardSpec
from engine.placement import REPLICAS_MAX
from engine.vectors.collection import Collection
from engine.vectors.declaration import CollectionSpec
from engine.vectors.followed import FollowedCollection
from engine.vectors.store_folder import StoreFolder

log = logging.getLogger("vireo.vectors")


def opened_folder(path: Path, shard: ShardSpec | None) -> StoreFolder:
    """The store's folder. Of a shard, whose replicas may be on one machine, the first one below `path` that none of them has: one
    that comes back goes on with what another left. Raises what `StoreFolder` does."""
    if shard is None:
        return StoreFolder(path)
    for number in count():
        try:
            return StoreFolder(path / str(number))
        except Unavailable as error:
            if not isinstance(error.__cause__, BlockingIOError) or number >= 2 * REPLICAS_MAX:
                raise
    raise AssertionError


def opened(folder: StoreFolder, name: str) -> Collection | VireoError:
    """The collection, or why it can't be opened: the others are served all the same."""
    try:
        return Collection(name, folder.path(name))
    except VireoError as error:
        return error
    except Exception as error:
        log.exception("collection %s cannot be opened", name)
        return Internal(f"collection {quoted(name)}: cannot be opened: {type(error).__name__}: {error}")


def opened_on_topic(
    folder: StoreFolder, name: str, declared: CollectionSpec, shard: ShardSpec | None
) -> FollowedCollection | VireoError:
    """Likewise, of one that follows a topic; it may still be catching up. Raises FailedPrecondition where one of that name has a
    log of its own."""
    if name in folder.names():
        raise FailedPrecondition(
            f"collection {quoted(name)}: its points are in a log of its own, and the spec declares one on Kafka; give it "
            f"another name"
        )
    try:
        found = FollowedCollection(name, folder.followed(name), declared, shard=shard)
    except VireoError as error:
        return error
    found.await_ready(FEATURE_RESTORE_S_MAX)
    return found
