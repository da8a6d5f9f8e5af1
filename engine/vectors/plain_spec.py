"""A collection's spec from JSON and back: by the reader of the spec file, so that both refuse the same with the same words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.strict_yaml import plain_of, read_plain
from engine.vectors.declaration import CollectionSpec
from engine.vectors.relations import check_collection


def collection_spec_of(mapping: Mapping[str, Any], path: str = "collection") -> CollectionSpec:
    """The spec that JSON says, keys left out by their defaults, checked for sense. Raises InvalidArgument with the key below
    `path`."""
    spec = read_plain(mapping, CollectionSpec, path)
    check_collection(spec, path)
    return spec


def as_plain(spec: CollectionSpec) -> dict[str, Any]:
    """`spec` as JSON has it, every key: `collection_spec_of` reads it back."""
    found: dict[str, Any] = plain_of(spec)
    return found
