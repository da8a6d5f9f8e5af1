"""What the names of a store mean at one moment: collections that are open, collections that could not be, aliases. Pure.

A value: it is replaced by reference, so whoever reads it sees several aliases, or a collection and its aliases, change together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from engine.errors import FailedPrecondition, NotFound, ResourceExhausted, VireoError, nearest, quoted
from engine.limits import COLLECTION_ALIASES_MAX, COLLECTIONS_MAX

if TYPE_CHECKING:
    from engine.vectors.any_collection import AnyCollection
    from engine.vectors.followed import FollowedCollection


@dataclass(frozen=True, slots=True)
class Names:
    """`open` and `failed` have no name in common, and `aliases` none with either; an alias points at a collection."""

    open: Mapping[str, AnyCollection] = field(default_factory=dict)
    failed: Mapping[str, VireoError] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, collections: Mapping[str, AnyCollection | VireoError]) -> Names:
        """Of these, or why one is not open."""
        found = cls()
        for name, each in collections.items():
            found = found.having(name, each)
        return found

    @property
    def all(self) -> set[str]:
        """Of all collections."""
        return self.open.keys() | self.failed.keys()

    @property
    def followed(self) -> dict[str, FollowedCollection]:
        """Those open that follow topics."""
        if not self.open:
            return {}
        from engine.vectors.followed import FollowedCollection

        return {name: each for name, each in self.open.items() if isinstance(each, FollowedCollection)}

    def target(self, name: str) -> str:
        """The collection an alias points at; else `name` itself, of whatever."""
        return self.aliases.get(name, name)

    def find(self, name: str) -> AnyCollection | None:
        """The open collection of that name or alias."""
        return self.open.get(name) or self.open.get(self.aliases.get(name, ""))

    def state(self, name: str) -> tuple[str, int] | None:
        """See `VectorStore.state`; of a collection in shards the offset is 0."""
        found = self.find(name)
        if found is None:
            return None
        from engine.vectors.readable import Readable

        return self.target(name), found.view.offset if isinstance(found, Readable) else 0

    def absent(self, name: str) -> VireoError:
        """Why there is no open collection of that name or alias."""
        target = self.target(name)
        if (failed := self.failed.get(target)) is not None:
            return type(failed)(f"collection {quoted(target)} is not served: {failed.message}")
        return NotFound(f"no collection {quoted(name)}{nearest(name, self.all | self.aliases.keys())}")

    def problem(self, name: str) -> str | None:
        """Why no collection of that name or alias answers; None where one does."""
        if self.find(name) is None:
            return self.absent(name).message
        followed = self.followed.get(self.target(name))
        return None if followed is None else followed.problem

    def problems(self) -> dict[str, str]:
        """Of collections that do not answer, by their names."""
        catching_up = {name: each.problem for name, each in self.followed.items() if each.problem is not None}
        return {name: error.message for name, error in self.failed.items()} | catching_up

    def aliases_of(self, name: str) -> tuple[str, ...]:
        """Sorted."""
        return tuple(sorted(alias for alias, of in self.aliases.items() if of == name))

    def check_no_alias(self, name: str) -> None:
        """Raises FailedPrecondition."""
        if name in self.aliases:
            raise FailedPrecondition(f"{quoted(name)} is an alias of collection {quoted(self.aliases[name])}")

    def check_new(self, name: str) -> None:
        """Raises FailedPrecondition where a collection can't have that name, ResourceExhausted where there is no room."""
        if name in self.all:
            raise FailedPrecondition(f"collection {quoted(name)}: is there already")
        self.check_no_alias(name)
        self.check_room()

    def check_room(self) -> None:
        """For one collection more. Raises ResourceExhausted."""
        if (count := len(self.all)) >= COLLECTIONS_MAX:
            raise ResourceExhausted(f"there are {count} collections, as many as may be; drop one")

    def having(self, name: str, found: AnyCollection | VireoError | None) -> Names:
        """With that collection, or why it is not open, or without it (None)."""
        opened = {each: of for each, of in self.open.items() if each != name}
        failed = {each: of for each, of in self.failed.items() if each != name}
        if isinstance(found, VireoError):
            failed[name] = found
        elif found is not None:
            opened[name] = found
        return Names(opened, failed, self.aliases)

    def renamed(self, changes: Mapping[str, str | None]) -> Names:
        """With aliases that point at other collections, or nowhere any more (None). Raises NotFound, FailedPrecondition,
        ResourceExhausted."""
        new = dict(self.aliases)
        for alias, name in changes.items():
            if alias in self.all:
                raise FailedPrecondition(f"alias {quoted(alias)}: a collection has that name")
            if name is None:
                if new.pop(alias, None) is None:
                    raise NotFound(f"no alias {quoted(alias)}{nearest(alias, new)}")
            elif name not in self.all:
                raise NotFound(f"alias {quoted(alias)}: no collection {quoted(name)}{nearest(name, self.all)}")
            else:
                new[alias] = name
        if len(new) > COLLECTION_ALIASES_MAX:
            raise ResourceExhausted(f"there would be {len(new)} aliases, at most {COLLECTION_ALIASES_MAX} may be")
        return replace(self, aliases=new)

    def without_aliases_of(self, name: str) -> Names:
        """Those that point elsewhere stay."""
        return replace(self, aliases={alias: of for alias, of in self.aliases.items() if of != name})
