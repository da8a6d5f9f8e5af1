"""The reference page names all there is: keys and defaults, calls and routes, words of filters and queries, metrics, bounds."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from engine import CollectionSpec, FieldSpec, IndexSpec, QuotaSpec, SparseSpec, VectorSpec, limits
from engine.vectors.declaration import PublishedSpec
from protos.vireo.v1 import vectors_pb2 as pb
from serving import vectors_json
from tests.test_docs import ROOT

PAGE = (ROOT / "docs" / "reference" / "vectors.md").read_text()
BELOW = {
    "vectors": ("vectors.V.", VectorSpec), "vectors.V.index": ("vectors.V.index.", IndexSpec),
    "sparse": ("sparse.S.", SparseSpec), "fields": ("fields.F.", FieldSpec), "quota": ("quota.", QuotaSpec),
    "snapshot": ("snapshot.", PublishedSpec),
}  # fmt: skip
ALONE = {"vectors", "sparse", "fields"}
"""Keys that have a line beside those below them."""


def keys(prefix: str, kind: type) -> Iterator[tuple[str, str]]:
    """Each key of the declaration by its path, and its default as the page writes it."""
    for each in dataclasses.fields(kind):
        path = prefix + each.name
        if path in BELOW:
            yield from keys(*BELOW[path])
        if path not in BELOW or path in ALONE:
            if each.default is not dataclasses.MISSING:
                yield path, f"`{json.dumps(each.default).strip(chr(34))}`"
            elif each.default_factory is not dataclasses.MISSING:
                yield path, f"`{each.default_factory()}`"
            else:
                yield path, "must be there"


def test_every_key_of_a_collection_is_there_with_its_default() -> None:
    table = dict(re.findall(r"^\| `([a-zA-Z._]+)` \| (.*?) \|", PAGE.partition("**Altering**")[0], re.MULTILINE))
    declared = dict(keys("", CollectionSpec))
    assert table.keys() == declared.keys()
    assert not {key: table[key] for key, default in declared.items() if not table[key].startswith(default)}


def test_every_call_and_its_route_are_there(http: httpx.Client) -> None:
    methods = [each.name for each in pb.DESCRIPTOR.services_by_name["Vectors"].methods]
    assert len(methods) == len(re.findall(r"^\| `[A-Z]\w+` \| (?:`[A-Z]+ /|\|)", PAGE, re.MULTILINE))
    assert not [each for each in methods if f"\n| `{each}` |" not in PAGE]
    paths = http.get("/openapi.json").json()["paths"]
    routes = [(method, path) for path in paths if "/v1/collections" in path for method in paths[path]]
    assert len(routes) == len(methods) - 1  # but for the stream
    for method, path in routes:
        short = path.replace("/v1/collections/{collection}", "/NAME").replace("{snapshot}", "SNAPSHOT")
        assert f"`{method.upper()} {short}`" in PAGE


@pytest.mark.parametrize("kind", ["FieldCondition", "Condition", "Filter", "Leg", "SearchRequest"])
def test_every_word_of_filters_and_queries_is_there(kind: str) -> None:
    names = {each.name for each in getattr(pb, kind).DESCRIPTOR.fields} - {"field"}
    assert not {each for each in names if not re.search(rf"[`\".]{each}[`\"]", PAGE)}


def test_every_key_of_a_searchs_json_is_there() -> None:
    kinds: list[Any] = [each for each in vars(vectors_json).values() if isinstance(each, type)]
    bodies = [each for each in kinds if issubclass(each, msgspec.Struct)]
    names = {name for each in bodies for name in each.__struct_fields__}
    assert len(names) > 30
    assert not {each for each in names if not re.search(rf"[`\"]{each}[`\"]", PAGE)}


def test_every_metric_is_there(http: httpx.Client, name: str) -> None:
    text = http.get("/metrics").text
    assert f'vireo_collection_points{{collection="{name}"}}' in text
    found = set(re.findall(r"^# TYPE (vireo_collection_\w+)", text, re.MULTILINE))
    assert len(found) == 12
    assert not {each for each in found if f"`{each}`" not in PAGE}


@pytest.mark.parametrize(
    "limit",
    [
        "SEARCH_K_MAX", "SEARCH_CANDIDATES_MAX", "SEARCH_LEGS_MAX", "SEARCH_EXAMPLES_MAX", "SEARCH_TEXT_BYTES_MAX",
        "SEARCH_BATCH_MAX", "FILTER_DEPTH_MAX", "FILTER_CONDITIONS_MAX", "FILTER_VALUES_MAX", "PAYLOAD_BYTES_MAX",
        "FIELD_VALUES_MAX", "SPARSE_VALUES_MAX", "VECTORS_OF_POINT_MAX", "COLLECTIONS_MAX", "COLLECTION_ALIASES_MAX",
        "COLLECTION_SNAPSHOTS_MAX", "COLLECTION_NAME_CHARS_MAX", "COLLECTION_NAMES_MAX", "VECTOR_DIMENSIONS_MAX",
        "VECTOR_CALLS_MAX", "SEGMENT_ROWS_GROWING_MAX", "RECALL_WAITING_MAX",
    ],
)  # fmt: skip
def test_bounds_are_told_as_they_are(limit: str) -> None:
    assert re.search(rf"(?<![\d,]){getattr(limits, limit):,}(?![\d,])", PAGE), limit
