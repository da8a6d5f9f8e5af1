"""A collection as its users have it: opened, asked, altered, copied, closed, and what is said where it can't be."""

from __future__ import annotations

import errno
import random
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound, Unavailable, VireoError
from engine.vectors.collection import Collection
from engine.vectors.declaration import CollectionSpec, FieldSpec, VectorSpec
from engine.vectors.filter import Filter, Match, Range
from engine.vectors.gathering import Block
from engine.vectors.query import DenseLeg, Query, RecommendLeg, TextLeg
from engine.vectors.snapshot import restore
from tests.engine.log.disks import QuickDisk
from tests.engine.vectors.core import OWNED, SPEC, points, shown

MORE = replace(SPEC, fields={**SPEC.fields, "more": FieldSpec("integer")})
QUERY = Query((DenseLeg("v", np.zeros(4, np.float32)),), 5)


def opened(folder: Path, spec: CollectionSpec | None = SPEC, disk: QuickDisk | None = None) -> Collection:
    """Without a thread of its own."""
    return Collection("c", folder / "c", spec, disk=disk or QuickDisk(), background=False)


def test_points_are_got_in_the_order_asked_each_once_with_what_is_asked(tmp_path: Path) -> None:
    with opened(tmp_path) as collection:
        collection.upsert(points(range(40), 3))
        collection.indexer.flush()
        collection.upsert(points([5, 6], 4))
        hits = collection.get([6, 30, 99, 5, 6], payload=("n",), vectors=("v",))
        assert [(each.id, each.payload) for each in hits] == [(6, {"n": 4}), (30, {"n": 3}), (5, {"n": 4})]
        assert all(each.vectors["v"].shape == (4,) for each in hits)
        assert collection.get([1])[0].payload == {}
        assert collection.get([]) == []
        with pytest.raises(InvalidArgument, match="nothing"):
            collection.get([1], payload=("nothing",))
        with pytest.raises(InvalidArgument, match=r"ids\[1\]"):
            collection.get([1, "x"])


def test_pages_are_of_ascending_ids_and_the_last_one_says_so(tmp_path: Path) -> None:
    with opened(tmp_path) as collection:
        for begin in (30, 0, 10):
            collection.upsert(points(range(begin, begin + 10), begin))
            collection.indexer.step()
        found, after = [], None
        for _ in range(3):
            hits, after = collection.scroll(limit=10, after=after, payload=("n",))
            found += [each.id for each in hits]
        assert (found, after) == ([*range(20), *range(30, 40)], None)
        hits, after = collection.scroll(filter_=Filter.of(Range("n", gte=10), SPEC), limit=3, after=17)
        assert ([each.id for each in hits], after) == ([18, 19, 30], 30)
        assert collection.scroll(after=39) == ([], None)
        for limit in (0, -1, 10_001):
            with pytest.raises(InvalidArgument, match="limit"):
                collection.scroll(limit=limit)


def test_several_searches_are_answered_from_one_view_and_a_bad_one_is_named(tmp_path: Path) -> None:
    with opened(tmp_path) as collection:
        collection.upsert(points(range(9)))
        alone = [collection.search(QUERY), collection.search(replace(QUERY, k=2))]
        assert [each.hits for each in collection.search_many([QUERY, replace(QUERY, k=2)])] == [
            each.hits for each in alone
        ]
        assert collection.search_many([]) == []
        with pytest.raises(InvalidArgument, match=r"queries\[1\]"):
            collection.search_many([QUERY, replace(QUERY, k=0)])
        with pytest.raises(NotFound, match=r"queries\[0\].*77"):
            collection.search_many([replace(QUERY, legs=(RecommendLeg("v", (77,)),))])
        with pytest.raises(InvalidArgument, match=r"^searches\[8\]: k"):
            collection.search_many([QUERY, replace(QUERY, k=0)], paths=["searches[5]", "searches[8]"])


def test_a_vector_that_is_gone_is_told_to_who_gathers_it(tmp_path: Path) -> None:
    with opened(tmp_path) as collection:
        collection.upsert(points([1]))
        buffer = np.zeros((2, 5), np.float32)
        ids, nothing = np.array([1, 2], np.uint64), np.full(4, 7, np.float32)
        assert collection.gather(ids, [Block("v", nothing, 1)], buffer).tolist() == [True, False]
        assert buffer[1].tolist() == [0, 7, 7, 7, 7]
        assert buffer[0, 1:].any()
        with pytest.raises(FailedPrecondition, match="no vector 'w'"):
            collection.gather(ids, [Block("v", nothing, 1), Block("w", nothing, 1)], buffer)


def test_an_empty_collection_answers_everything_with_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as collection:
        assert collection.search(QUERY).hits == []
        assert collection.search(replace(QUERY, legs=(TextLeg("body", "common"), *QUERY.legs))).hits == []
        assert (collection.scroll(), collection.count(), collection.get([1])) == (([], None), 0, [])
        assert collection.delete([1]).count == 0
        assert collection.set_payload({"n": 1}, filter_=Filter.of(Match("n", 1), SPEC)).count == 0
        assert collection.info().points == 0


def test_a_folder_is_of_one_open_collection(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(Unavailable, match="is open already"):
        opened(tmp_path)
    opened(tmp_path).close()


def test_closing_twice_is_closing_and_questions_are_still_answered(tmp_path: Path) -> None:
    collection = opened(tmp_path)
    collection.upsert(points(range(3)))
    collection.close()
    collection.close()
    assert len(collection.search(QUERY).hits) == 3
    with pytest.raises(Unavailable):
        collection.upsert(points([1]))


def test_a_collection_whose_log_is_gone_is_not_opened(tmp_path: Path) -> None:
    with opened(tmp_path) as collection:
        collection.upsert(points(range(20)))
        collection.indexer.flush()
        collection.upsert(points([1], 7))
    shutil.rmtree(tmp_path / "c" / "log-0000000001")
    with pytest.raises(DataLoss, match="is needed from 20"):
        opened(tmp_path)
    with pytest.raises(DataLoss):
        opened(tmp_path)  # the one that failed let go of the folder


def test_a_snapshot_is_made_of_what_there_is_in_a_new_folder(tmp_path: Path) -> None:
    with opened(tmp_path) as collection:
        collection.upsert(points(range(30), 1))
        collection.delete([4])
        collection.snapshot(tmp_path / "snapshot")
        with pytest.raises(FailedPrecondition):
            collection.snapshot(tmp_path / "snapshot")
        collection.upsert(points([4], 2))
    restore(tmp_path / "snapshot", tmp_path / "other" / "c", disk=QuickDisk())
    with opened(tmp_path / "other", None) as other:
        assert shown(other.view) == {each: 1 for each in range(30) if each != 4}
        other.upsert(points([4], 3))
    with opened(tmp_path / "other") as other:
        assert other.get([4], payload=("n",))[0].payload == {"n": 3}


def test_points_are_read_as_an_altered_spec_says_and_so_after_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path) as collection:
        collection.upsert(points(range(30), 1))
        collection.alter(MORE)
        collection.set_payload({"more": 5}, ids=[3])
        collection.alter(replace(MORE, fields={name: each for name, each in MORE.fields.items() if name != "tag"}))
        assert collection.count(Filter.of(Match("more", 5), MORE)) == 1
        with pytest.raises(InvalidArgument, match="tag"):
            collection.get([1], payload=("tag",))
        with pytest.raises(FailedPrecondition, match="more"):
            collection.alter(replace(SPEC, fields={**SPEC.fields, "more": FieldSpec("text")}))
        with pytest.raises(FailedPrecondition):
            collection.alter(replace(SPEC, vectors={"v": VectorSpec(5, metric="l2")}))
    with opened(tmp_path, None) as collection:
        assert "tag" not in collection.spec.fields
        assert collection.count(Filter.of(Match("more", 5), MORE)) == 1
        assert shown(collection.view) == dict.fromkeys(range(30), 1)
        assert len(list((tmp_path / "c").glob("log-*"))) == 1


def test_an_emptied_collection_may_become_any_other(tmp_path: Path) -> None:
    with opened(tmp_path) as collection:
        collection.upsert(points(range(20)))
        collection.delete(list(range(20)))
        collection.indexer.flush()
        collection.indexer.settle(0)
        assert not collection.view.parts
        collection.alter(OWNED)
        collection.upsert(points([1, 2], 1, OWNED), tenant="me")
    with opened(tmp_path, None) as collection:
        assert collection.count(tenant="me") == 2


class FailingManifest(QuickDisk):
    """Fails to make a new manifest, before it is in its place or, `late`, when it is there already."""

    def __init__(self, *, late: bool) -> None:
        self.late = late
        self.fails = 0
        self._folder: Path | None = None

    def create(self, path: Path, content: bytes) -> int:
        """Disk."""
        if path.name != "manifest.json" or not self.fails:
            return super().create(path, content)
        self.fails -= 1
        if not self.late:
            raise OSError(errno.EIO, "no more")
        self._folder = path.parent
        return super().create(path, content)

    def sync_folder(self, folder: Path) -> None:
        """Disk."""
        if folder == self._folder:
            self._folder = None
            raise OSError(errno.EIO, "no more")


@pytest.mark.parametrize("late", [False, True])
def test_what_is_written_after_an_alteration_that_failed_is_not_lost(tmp_path: Path, *, late: bool) -> None:
    disk = FailingManifest(late=late)
    collection = opened(tmp_path, disk=disk)
    collection.upsert(points(range(5), 1))
    collection.indexer.flush()
    disk.fails = 1
    alter_fails(collection, MORE, disk)
    assert collection.spec == SPEC
    collection.upsert(points([7], 2))
    collection.close()
    collection = opened(tmp_path, None, disk)
    assert shown(collection.view) == {**dict.fromkeys(range(5), 1), 7: 2}
    collection.alter(replace(SPEC, fields={**SPEC.fields, "more": FieldSpec("bool")}))
    collection.set_payload({"more": True}, ids=[7])
    collection.close()
    with opened(tmp_path, None, disk) as collection:
        assert collection.get([7], payload=("more",))[0].payload == {"more": True}


@pytest.mark.parametrize("late", [False, True])
def test_after_an_alteration_that_failed_another_one_may_be_made(tmp_path: Path, *, late: bool) -> None:
    disk = FailingManifest(late=late)
    with opened(tmp_path, disk=disk) as collection:
        collection.upsert(points(range(5), 1))
        disk.fails = 1
        alter_fails(collection, MORE, disk)
        other = replace(SPEC, fields={**SPEC.fields, "more": FieldSpec("bool")})
        collection.alter(other)
        collection.set_payload({"more": True}, ids=[3])
    with opened(tmp_path, None, disk) as collection:
        assert collection.count(Filter.of(Match("more", True), other)) == 1
        assert collection.count() == 5


def alter_fails(collection: Collection, spec: CollectionSpec, disk: FailingManifest) -> None:
    """At its own commit: those of the flush before it are let through."""
    real = collection.indexer.flush

    def flush() -> None:
        fails, disk.fails = disk.fails, 0
        real()
        disk.fails = fails

    collection.indexer.flush = flush  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        collection.alter(spec)
    collection.indexer.flush = real  # type: ignore[method-assign]


def test_where_the_old_manifest_cannot_be_brought_back_writes_are_refused(tmp_path: Path) -> None:
    disk = FailingManifest(late=True)
    collection = opened(tmp_path, disk=disk)
    collection.upsert(points(range(5), 1))
    disk.fails = 2
    alter_fails(collection, MORE, disk)
    with pytest.raises(Unavailable):
        collection.upsert(points([7], 2))
    assert len(collection.search(QUERY).hits) == 5
    collection.close()
    with opened(tmp_path, None) as collection:
        assert shown(collection.view) == dict.fromkeys(range(5), 1)


def test_what_a_collection_tells_of_itself_is_so(tmp_path: Path) -> None:
    with opened(tmp_path) as collection:
        collection.upsert(points(range(16)))
        collection.indexer.step()
        collection.delete([3])
        collection.upsert(points([50]))
        info = collection.info()
        assert (info.name, info.points, info.offset, info.replay_from, info.problem) == ("c", 16, 18, 16, None)
        assert [(each.name, each.rows, each.alive) for each in info.parts] == [("segment 1", 16, 15), ("growing", 1, 1)]
        assert info.parts[0].bytes > 0 == info.parts[1].bytes


def test_a_search_has_k_different_points_whatever_is_written_and_merged_beside_it(tmp_path: Path) -> None:
    collection = Collection("c", tmp_path / "c", SPEC, disk=QuickDisk())
    collection.upsert(points(range(100)))
    ended, wrong = threading.Event(), list[str]()
    filter_ = Filter.of(Range("n", gte=0), SPEC)
    both = (*QUERY.legs, TextLeg("body", "common"))
    queries = [replace(QUERY, k=100), replace(QUERY, k=30, filter=filter_), replace(QUERY, legs=both, k=100)]

    def search() -> None:
        source = random.Random(1)
        try:
            while not ended.is_set():
                query = source.choice(queries)
                hits = collection.search(query).hits
                ids = [each.id for each in hits]
                if len(set(ids)) != query.k or len(ids) != query.k or not set(ids) <= set(range(100)):
                    wrong.append(f"{len(ids)} hits, {len(set(ids))} different, of {query.k}")
                if collection.count() != 100:
                    wrong.append("points were not counted")
        except BaseException as error:
            wrong.append(repr(error))

    threads = [threading.Thread(target=search) for _ in range(2)]
    for each in threads:
        each.start()
    source = random.Random(2)
    for step in range(40):
        collection.upsert(points(source.sample(range(100), 7), step))
        if step % 10 == 0:
            collection.set_payload({"tag": f"{step}"}, ids=source.sample(range(100), 5))
    ended.set()
    for each in threads:
        each.join()
    assert not wrong, wrong[0]
    assert collection.wait_indexed(30)
    assert collection.info().problem is None
    collection.close()


def test_what_asks_for_no_tenant_or_the_wrong_one_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path, OWNED) as collection:
        collection.upsert(points([1], 1, OWNED), tenant="me")
        query = Query((DenseLeg("v", np.ones(4, np.float32)),), 5)
        calls: list[Callable[[], object]] = [
            lambda: collection.search(query), lambda: collection.get([1]), lambda: collection.scroll(),
            lambda: collection.count(), lambda: collection.set_payload({"n": 1}, ids=[1]),
            lambda: collection.clear_payload(ids=[1]), lambda: collection.set_payload({"owner": "you"}, ids=[1], tenant="me"),
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(InvalidArgument):
                call()
        assert [each.id for each in collection.search(replace(query, tenant="me")).hits] == [1]
        assert collection.search(replace(query, tenant="you")).hits == []
        assert collection.get([1], tenant="you") == []
        with pytest.raises(NotFound):
            collection.search(replace(query, legs=(RecommendLeg("v", (1,)),), tenant="you"))


def test_errors_here_are_ours(tmp_path: Path) -> None:
    with pytest.raises(VireoError):
        opened(tmp_path, None)
