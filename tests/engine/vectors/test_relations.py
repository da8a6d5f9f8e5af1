"""What a collection's spec may say, in the file and in JSON, and what it may become."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine import SpecError, parse_spec
from engine.errors import FailedPrecondition, InvalidArgument
from engine.vectors.declaration import (
    CollectionSpec,
    FieldSpec,
    IndexSpec,
    QuotaSpec,
    SparseSpec,
    VectorSpec,
    VectorStoreSpec,
)
from engine.vectors.plain_spec import as_plain, collection_spec_of
from engine.vectors.relations import check_alter, check_collection, check_name, problems_of, remembered

TEXT = VectorSpec(4)
SPEC = CollectionSpec(
    vectors={"text": TEXT, "words": VectorSpec(2, multi=True)},
    sparse={"splade": SparseSpec()},
    fields={
        "owner": FieldSpec("keyword"),
        "title": FieldSpec("text"),
        "tags": FieldSpec("keyword", array=True),
        "size": FieldSpec("integer"),
    },
)


def vector(**said: Any) -> CollectionSpec:  # noqa: ANN401
    """SPEC with another vector."""
    return replace(SPEC, vectors={"text": replace(TEXT, **said)})


def test_a_spec_that_makes_sense_has_no_problem() -> None:
    for spec in (
        SPEC,
        replace(SPEC, tenant="owner", quota=QuotaSpec(5, 2), growing_rows=1, recall_sample=1.0, id="text"),
        vector(metric="dot", stored="binary", index=IndexSpec("binary", candidates=100_000)),
        vector(size=65_536, metric="l2", stored="int8", index=IndexSpec("ivf_pq", lists=16_384, gpu=True)),
        CollectionSpec({}, fields={"title": FieldSpec("text", array=True, stemmer=None)}),
        CollectionSpec({}, sparse={"splade": SparseSpec(idf=True)}),
        replace(SPEC, fields={"a.b/c d é": FieldSpec("geo")}),
    ):
        assert [*problems_of(spec)] == []
        check_collection(spec)


@pytest.mark.parametrize(
    ("key", "message", "spec"),
    [
        ("vectors.text.size", "must be from 1 to 65536, got 0", vector(size=0)),
        ("vectors.text.size", "must be from 1 to 65536, got 65537", vector(size=65_537)),
        ("vectors.text.stored", "'binary' keeps directions, not lengths", vector(stored="binary", metric="l2")),
        ("vectors.text.stored", "a multi-vector scores candidates again", vector(stored="binary", multi=True)),
        ("vectors.text.metric", "multi-vectors are scored by dot products", vector(metric="l2", multi=True)),
        ("vectors.text.index", "a multi-vector is never searched", vector(multi=True, index=IndexSpec("flat"))),
        ("vectors.text.index.kind", "'binary' finds directions", vector(metric="l2", index=IndexSpec("binary"))),
        (
            "vectors.text.index.kind",
            "of what is stored as 'binary' an index is",
            vector(stored="binary", index=IndexSpec("pq")),
        ),
        ("vectors.text.index.lists", "belongs to kind 'ivf_pq', got 'pq'", vector(index=IndexSpec("pq", lists=9))),
        ("vectors.text.index.lists", "must be from 1 to 16384, got 0", vector(index=IndexSpec(lists=0))),
        ("vectors.text.index.links", "must be from 4 to 256, got 1", vector(index=IndexSpec("hnsw", links=1))),
        ("vectors.text.index.candidates", "must be from 1 to 100000", vector(index=IndexSpec(candidates=0))),
        ("vectors", "a name has from 1 to 256 printable characters, got ''", replace(SPEC, vectors={"": TEXT})),
        ("fields", "a name has from 1 to 256 printable", replace(SPEC, fields={"a\n": FieldSpec("geo")})),
        ("fields", "a name has from 1 to 256 printable", replace(SPEC, fields={"x" * 257: FieldSpec("geo")})),
        (
            "fields",
            "at most 1024 are allowed, got 1025",
            replace(SPEC, fields={str(at): FieldSpec("bool") for at in range(1025)}),
        ),
        ("sparse.text", "a dense vector has that name", replace(SPEC, sparse={"text": SparseSpec()})),
        (
            "fields.owner.stemmer",
            "belongs to a text field, and this one is keyword",
            replace(SPEC, fields={"owner": FieldSpec("keyword", stemmer="english")}),
        ),
        ("fields.a.stemmer", "stemmer 'klingon': ", replace(SPEC, fields={"a": FieldSpec("text", stemmer="klingon")})),
        ("", "nothing can be searched", CollectionSpec({"words": VectorSpec(2, multi=True)})),
        ("", "nothing can be searched", CollectionSpec({}, fields={"owner": FieldSpec("keyword")})),
        ("tenant", "no field 'ower'; nearest: 'owner'", replace(SPEC, tenant="ower")),
        ("tenant", "field 'tags' is an array of keyword, expected a keyword", replace(SPEC, tenant="tags")),
        ("tenant", "field 'title' is text, expected a keyword", replace(SPEC, tenant="title")),
        ("quota.points_max", "must be from 1 to ", replace(SPEC, quota=QuotaSpec(0))),
        ("quota.tenant_points_max", "belongs to a collection with tenants", replace(SPEC, quota=QuotaSpec(5, 2))),
        ("growing_rows", "must be from 1 to 1048576, got 0", replace(SPEC, growing_rows=0)),
        ("recall_sample", "must be from 0 to 1, got 1.5", replace(SPEC, recall_sample=1.5)),
        ("recall_sample", "must be from 0 to 1, got nan", replace(SPEC, recall_sample=float("nan"))),
    ],
)
def test_what_cannot_be_together_is_named_by_its_key(key: str, message: str, spec: CollectionSpec) -> None:
    found = dict(problems_of(spec))
    assert key in found
    assert found[key].startswith(message)
    with pytest.raises(InvalidArgument, match=r"^made(\.|: )"):
        check_collection(spec, "made")


def test_names_of_collections_are_folders_and_parts_of_urls() -> None:
    for good in ("a", "A-b_c.2", "_x", "9", "x" * 128):
        check_name(good)
    for bad in ("", ".", "..", "a..b", ".hidden", "-a", "a/b", "a b", "é", "a\n", "x" * 129):
        with pytest.raises(InvalidArgument, match=r"^alias: a name has from 1 to 128 letters"):
            check_name(bad, "alias")


def test_a_spec_goes_to_json_and_back() -> None:
    for spec in (SPEC, replace(SPEC, tenant="owner"), vector(index=IndexSpec("ivf_pq", lists=5), metric="l2")):
        assert collection_spec_of(json.loads(json.dumps(as_plain(spec)))) == spec
    assert collection_spec_of({"vectors": {"text": {"size": 4}}}) == CollectionSpec({"text": TEXT})


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (": missing key 'vectors'", {}),
        (": expected keys with values, got a sequence", []),
        (": a key must be a plain word, got a int", {1: 2}),
        (": unknown key 'vector'; nearest: 'vectors'", {"vectors": {}, "vector": {}}),
        (": nothing can be searched: ", {"vectors": {}}),
        (".vectors.a: unknown key 'dim'", {"vectors": {"a": {"dim": 3}}}),
        (".vectors.a: missing key 'size'", {"vectors": {"a": {}}}),
        (".vectors.a.size: expected a whole number, got '3'", {"vectors": {"a": {"size": "3"}}}),
        (".vectors.a.size: expected a whole number, got 'true'", {"vectors": {"a": {"size": True}}}),
        (".vectors.a.size: expected a whole number, got '3.0'", {"vectors": {"a": {"size": 3.0}}}),
        (".vectors.a.size: must be from 1 to 65536, got 0", {"vectors": {"a": {"size": 0}}}),
        (".vectors.a.metric: expected one of 'cosine', 'dot'", {"vectors": {"a": {"size": 3, "metric": "cos"}}}),
        (".tenant: expected text, got '5'", {"vectors": {"a": {"size": 3}}, "tenant": 5}),
        (".recall_sample: int too large", {"vectors": {"a": {"size": 3}}, "recall_sample": 10**400}),
        (": an integer of more digits than Python writes", {"vectors": {"a": {"size": 10**5000}}}),
        (": expected what JSON can say, got a bytes", {"vectors": {"a": {"size": b"3"}}}),
        (": more than ", {"vectors": {str(at): {"size": 3} for at in range(200_000)}}),
    ],
)
def test_what_json_says_wrongly_is_named_by_its_path(message: str, said: Any) -> None:  # noqa: ANN401
    with pytest.raises(InvalidArgument) as caught:
        collection_spec_of(said, "body")
    assert caught.value.message.startswith(f"body{message}")


def test_json_that_is_nested_without_end_is_refused() -> None:
    deep: dict[str, Any] = {}
    deep["vectors"] = deep
    with pytest.raises(SpecError, match=r"^body: (nested too deep|more than)"):
        collection_spec_of(deep, "body")


def test_collections_are_declared_in_the_file() -> None:
    text = (
        "vectors:\n  path: v\n  fixed: true\n  collections:\n    docs: {vectors: {text: {size: 4}}, recall_sample: 0}\n"
    )
    spec = parse_spec(text, folder=Path("/specs"))
    wanted = CollectionSpec({"text": TEXT}, recall_sample=0.0)
    assert spec.vectors == VectorStoreSpec("v", {"docs": wanted}, fixed=True)
    assert parse_spec("", folder=Path("/specs")).vectors is None


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("s.yaml:1: vectors: missing key 'path'", "vectors: {fixed: true}"),
        ("s.yaml:1: vectors.path: expected a folder, got nothing", "vectors: {path: ''}"),
        (
            "s.yaml:2: vectors.collections.a/b: a name has",
            "vectors:\n  {path: v, collections: {a/b: {vectors: {t: {size: 4}}}}}",
        ),
        (
            "s.yaml:5: vectors.collections.a.vectors.t.size: must be from 1 to 65536, got 0",
            "vectors:\n  path: v\n  collections:\n    a:\n      vectors: {t: {size: 0}}",
        ),
        (
            "s.yaml:4: vectors.collections.a: nothing can be searched",
            "vectors:\n  path: v\n  collections:\n    a: {vectors: {}}",
        ),
        (
            "s.yaml:1: vectors.path: 'data' is not the collections' alone, see repository.path",
            "vectors: {path: data}\nrepository: {path: ./data/}",
        ),
        (
            "s.yaml:1: vectors.path: 'data' is not the collections' alone, see logs.l.local.path",
            "vectors: {path: data}\nlogs: {l: {schema: {a: int64}, local: {path: data/log}}}",
        ),
        (
            "s.yaml:1: vectors.path: '.' is not the collections' alone, see repository.path",
            "vectors: {path: .}\nrepository: {path: models}",
        ),
    ],
)
def test_mistakes_in_the_file_name_their_line(message: str, text: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(text, folder=Path("/specs"), source="s.yaml")
    assert caught.value.message.startswith(message)


def test_folders_beside_each_other_are_each_ones_own() -> None:
    parse_spec("vectors: {path: data/v}\nrepository: {path: data}", folder=Path("/specs"))
    parse_spec("vectors: {path: data}\nrepository: {path: data2}", folder=Path("/specs"))


def with_fields(**fields: FieldSpec) -> CollectionSpec:
    """SPEC with more fields, or others."""
    return replace(SPEC, fields={**SPEC.fields, **fields})


def test_fields_come_and_go_while_stored_points_stay_readable() -> None:
    more = with_fields(price=FieldSpec("float"))
    check_alter(SPEC, more, None, empty=False)
    check_alter(more, SPEC, remembered(more, None), empty=False)
    check_alter(SPEC, more, remembered(more, None), empty=False)
    check_alter(SPEC, vector(stored="int8", index=IndexSpec("hnsw")), None, empty=False)


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("ids are stored as integer, the spec says text", lambda spec: replace(spec, id="text")),
        ("vector 'text': size is stored as 4", lambda spec: replace(spec, vectors={"text": VectorSpec(5)})),
        ("vector 'other': is new", lambda spec: replace(spec, vectors={**spec.vectors, "other": TEXT})),
        ("field 'size': type is stored as integer", lambda _: with_fields(size=FieldSpec("float"))),
        ("field 'title': stemmer is None", lambda _: with_fields(title=FieldSpec("text", stemmer="english"))),
        ("tenant is None, the spec says owner", lambda spec: replace(spec, tenant="owner")),
    ],
)
def test_what_stored_points_cannot_be_read_as_is_refused_unless_there_are_none(
    message: str, change: Callable[[CollectionSpec], CollectionSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.vectors.words.stems_of", lambda words, _: words)  # the package may not be there
    with pytest.raises(FailedPrecondition) as caught:
        check_alter(SPEC, change(SPEC), None, empty=False)
    assert caught.value.message.startswith(message)
    check_alter(SPEC, change(SPEC), None, empty=True)


def test_a_name_does_not_come_back_as_something_else() -> None:
    had = with_fields(price=FieldSpec("float"))
    had = replace(had, vectors={**had.vectors, "pages": VectorSpec(8, multi=True)})
    ever = remembered(SPEC, remembered(had, None))
    assert "price" not in SPEC.fields
    assert ever.fields["price"] == FieldSpec("float")
    check_alter(SPEC, had, ever, empty=False)
    with pytest.raises(FailedPrecondition, match="field 'price': type is stored as float, the spec says keyword"):
        check_alter(SPEC, with_fields(price=FieldSpec("keyword")), ever, empty=False)
    wider = replace(had, vectors={**SPEC.vectors, "pages": VectorSpec(9, multi=True)})
    with pytest.raises(FailedPrecondition, match="vector 'pages': size is stored as 8"):
        check_alter(SPEC, wider, ever, empty=False)
    check_alter(SPEC, wider, ever, empty=True)


def test_what_is_no_spec_is_no_alteration() -> None:
    with pytest.raises(InvalidArgument, match=r"^collection\.growing_rows: "):
        check_alter(SPEC, replace(SPEC, growing_rows=0), None, empty=True)


def test_a_dense_vector_that_was_dropped_does_not_come_back() -> None:
    dropped = replace(SPEC, vectors={"words": SPEC.vectors["words"]})
    check_alter(SPEC, dropped, None, empty=False)
    with pytest.raises(FailedPrecondition, match="vector 'text': is new, and stored points have none"):
        check_alter(dropped, SPEC, remembered(SPEC, None), empty=False)
