"""What comes between two steps of one call: an alteration, a merge; and what goes into the log as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from engine.errors import InvalidArgument
from engine.log.log import Appended
from engine.vectors.collection import Collection
from engine.vectors.declaration import CollectionSpec
from engine.vectors.filter import Filter, Match
from engine.vectors.query import Query, RecommendLeg, TextLeg
from engine.vectors.search import search
from tests.engine.log.disks import QuickDisk
from tests.engine.vectors.crash.points import OTHER, SPEC, batch


def opened(folder: Path, spec: CollectionSpec = SPEC) -> Collection:
    """Nothing goes on in the background."""
    return Collection("c", folder, spec, disk=QuickDisk(), background=False)


def altered_first(collection: Collection, spec: CollectionSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next change of payloads has to wait for an alteration."""
    rewrite = collection.writer.rewrite

    def waits(*given: Any, **named: Any) -> Any:  # noqa: ANN401
        monkeypatch.undo()
        collection.alter(spec)
        return rewrite(*given, **named)

    monkeypatch.setattr(collection.writer, "rewrite", waits)


class AltersFirst(tuple[Any, ...]):
    """Alters the collection when it is first looked through: in the middle of the checks of what has it."""

    waits: list[Callable[[], None]]

    @classmethod
    def of(cls, given: Iterable[Any], collection: Collection, spec: CollectionSpec) -> AltersFirst:
        """Whose spec becomes this one."""
        found = cls(given)
        found.waits = [lambda: collection.alter(spec)]
        return found

    def __iter__(self) -> Iterator[Any]:
        while self.waits:
            self.waits.pop()()
        return super().__iter__()


def payloads(collection: Collection) -> dict[Any, Mapping[str, Any]]:
    """By id."""
    hits, _ = collection.scroll(payload=tuple(collection.spec.fields))
    return {each.id: each.payload for each in hits}


def test_a_change_of_payloads_that_waited_for_an_alteration_knows_the_new_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as collection:
        collection.upsert(batch([1, 2], 1))
        altered_first(collection, OTHER, monkeypatch)
        assert collection.set_payload({"n": 5}, ids=[1], replace=True).count == 1
        assert payloads(collection)[1] == {"n": 5}
        altered_first(collection, SPEC, monkeypatch)
        assert collection.clear_payload(ids=[2]).count == 1
        assert payloads(collection) == {1: {"n": 5}, 2: {}}


def test_a_change_of_a_field_that_an_alteration_took_away_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path, OTHER) as collection:
        collection.upsert(batch([1], 1))
        before = payloads(collection)
        altered_first(collection, SPEC, monkeypatch)
        with pytest.raises(InvalidArgument, match="more"):
            collection.set_payload({"more": "x"}, ids=[1])
        collection.alter(OTHER)
        altered_first(collection, SPEC, monkeypatch)
        with pytest.raises(InvalidArgument, match="more"):
            collection.clear_payload(["more"], ids=[1])
        assert payloads(collection) == before


def test_a_question_is_answered_by_the_spec_it_was_checked_against(tmp_path: Path) -> None:
    with opened(tmp_path, OTHER) as collection:
        collection.upsert(batch([1, 2], 1))
        collection.set_payload({"more": "x"}, ids=[1, 2])
        (got,) = collection.get(AltersFirst.of([1], collection, SPEC), payload=("more",))
        assert got.payload == {"more": "x"}
        assert collection.spec == SPEC
        collection.alter(OTHER)
        page, _ = collection.scroll(payload=AltersFirst.of(["more"], collection, SPEC))
        assert [each.payload for each in page] == [{"more": "x"}] * 2
        assert collection.spec == SPEC


def test_a_filter_by_a_field_that_an_alteration_took_away_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path, OTHER) as collection:
        collection.upsert(batch([1, 2], 1))
        gone, stays = (Filter.of(Match(name, "g1"), OTHER) for name in ("more", "tag"))
        collection.alter(SPEC)
        asks: list[Callable[[Filter], object]] = [
            lambda each: collection.search(Query((TextLeg("body", "v1"),), 10, filter=each)),
            lambda each: collection.search_many([Query((TextLeg("body", "v1"),), 10, filter=each)]),
            lambda each: collection.scroll(filter_=each),
            lambda each: collection.count(each),
            lambda each: collection.export(filter_=each),
            lambda each: collection.set_payload({"n": 1}, filter_=each),
            lambda each: collection.delete_matching(each),
        ]
        for ask in asks:
            with pytest.raises(InvalidArgument, match="no field 'more'"):
                ask(gone)
            ask(stays)
        assert collection.view.count == 0


def test_examples_are_of_the_state_that_the_search_was_checked_against(tmp_path: Path) -> None:
    without = replace(SPEC, vectors={"v": SPEC.vectors["v"]})
    with opened(tmp_path) as collection:
        collection.upsert(batch([1, 2], 1))
        found = collection.search(Query((RecommendLeg("w", AltersFirst.of([1], collection, without)),), 10))
        assert [each.id for each in found.hits] == [2]
        assert collection.spec == without


def test_a_view_answers_about_words_though_its_segments_were_merged_and_deleted(tmp_path: Path) -> None:
    with opened(tmp_path) as collection:
        for number in range(4):
            collection.upsert(batch(range(number * 70, number * 70 + 70), 3))
            while collection.indexer.step():
                pass
            if number == 2:
                view = collection.view
        assert [each.part.name for each in collection.view.parts] == ["segment 5"]
        assert len(view.parts) == 3
        assert len(search(view, Query((TextLeg("body", "v3"),), 500)).hits) == 210


def test_points_of_several_segments_are_changed_by_one_entry_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as collection:
        for number in range(3):
            collection.upsert(batch(range(number * 70, number * 70 + 70), 3))
            collection.indexer.step()
        assert len(collection.view.parts) == 3
        appended, append = list[int](), collection._log.append

        def counted(points: pa.RecordBatch) -> Appended:
            appended.append(points.num_rows)
            return append(points)

        monkeypatch.setattr(collection._log, "append", counted)
        assert collection.set_payload({"n": 9}, filter_=Filter.of(Match("tag", "g3"), SPEC)).count == 210
        assert appended == [210]
