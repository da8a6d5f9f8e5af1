"""The collections of one engine: they come, change, go, are named, copied and put back, also past a restart."""

from __future__ import annotations

import dataclasses
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import pytest

from engine import (
    AnyCollection,
    CollectionSpec,
    DataLoss,
    DenseLeg,
    FailedPrecondition,
    FieldSpec,
    InvalidArgument,
    NotFound,
    Query,
    ResourceExhausted,
    Spec,
    Unavailable,
    VectorSpec,
    VectorStore,
    VectorStoreSpec,
    VireoError,
    points_of,
)
from engine.vectors import names, store_folder

SPEC = CollectionSpec({"v": VectorSpec(4)}, fields={"n": FieldSpec("integer")}, durability="os")
WIDER = dataclasses.replace(SPEC, fields={**SPEC.fields, "shop": FieldSpec("keyword")})
OTHER = CollectionSpec({"v": VectorSpec(8)}, durability="os")


def opened(folder: Path, *, fixed: bool = False, **declared: CollectionSpec) -> VectorStore:
    """The store in `folder`."""
    found = VectorStore()
    found.apply(Spec(vectors=VectorStoreSpec("store", declared, fixed), folder=folder))
    return found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VectorStore]:
    """An empty one."""
    found = opened(tmp_path)
    yield found
    found.close()


def fill(collection: AnyCollection, *ids: int) -> None:
    """Points."""
    rows = [{"id": each, "vector": {"v": [1.0, each, 0, 0]}, "payload": {"n": each}} for each in ids]
    collection.upsert(points_of(collection.spec, rows))


def ids_in(collection: AnyCollection) -> list[int]:
    """All of them, by a search."""
    query = Query((DenseLeg("v", np.array([1, 0, 0, 0], np.float32)),), 100)
    return sorted(int(each.id) for each in collection.search(query).hits)


# What comes and goes.


def test_a_collection_that_was_made_is_there_after_a_restart(store: VectorStore, tmp_path: Path) -> None:
    fill(store.create("a", SPEC), 1, 2)
    store.create("b", OTHER)
    store.close()
    again = opened(tmp_path)
    assert again.names() == ("a", "b")
    assert ids_in(again.collection("a")) == [1, 2]
    assert again.collection("b").spec == OTHER
    assert again.problems() == {}
    again.close()


def test_a_collection_that_was_dropped_is_gone_and_its_files_with_it(store: VectorStore, tmp_path: Path) -> None:
    fill(store.create("a", SPEC), 1)
    store.drop("a")
    with pytest.raises(NotFound, match="no collection 'a'"):
        store.collection("a")
    assert not [each for each in (tmp_path / "store").rglob("*") if each.is_file() and each.name != "lock"]
    fill(store.create("a", OTHER))
    store.close()
    again = opened(tmp_path)
    assert again.collection("a").spec == OTHER
    again.close()


def test_who_holds_a_collection_that_is_dropped_still_searches_it(store: VectorStore) -> None:
    held = store.create("a", SPEC)
    fill(held, *range(20))
    held.wait_indexed(30)
    store.drop("a")
    assert ids_in(held) == list(range(20))
    with pytest.raises(Unavailable, match="is closed"):
        fill(held, 1)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", ".hidden", "-a", "a..b", "x" * 129, "a b", "ä", "a\n"])
def test_what_cannot_be_a_name_is_refused_everywhere(store: VectorStore, name: str) -> None:
    for call in (
        lambda: store.create(name, SPEC),
        lambda: store.set_alias(name, "a"),
        lambda: store.restore(name, "s"),
        lambda: store.restore("a", "s", source=name),
        lambda: store.restore("a", name),
        lambda: store.snapshots(name),
        lambda: store.drop_snapshot(name, "s"),
    ):
        with pytest.raises(InvalidArgument, match="a name has from 1 to"):
            call()
    for unknown in (store.collection, store.drop, store.describe, store.snapshot):
        with pytest.raises(NotFound):
            unknown(name)


def test_a_name_is_taken_once(store: VectorStore) -> None:
    store.create("a", SPEC)
    store.set_alias("b", "a")
    with pytest.raises(FailedPrecondition, match="collection 'a': is there already"):
        store.create("a", SPEC)
    with pytest.raises(FailedPrecondition, match="'b' is an alias of collection 'a'"):
        store.create("b", SPEC)


def test_of_several_that_make_one_collection_one_does(store: VectorStore) -> None:
    outcomes: list[str] = []

    def make() -> None:
        try:
            store.create("a", SPEC)
            outcomes.append("made")
        except FailedPrecondition:
            outcomes.append("refused")

    threads = [threading.Thread(target=make) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(outcomes) == ["made"] + ["refused"] * 5


def test_a_spec_that_makes_no_sense_leaves_nothing(store: VectorStore) -> None:
    with pytest.raises(InvalidArgument, match=r"collection.vectors.v.size: must be from 1"):
        store.create("a", CollectionSpec({"v": VectorSpec(0)}))
    assert store.names() == ()
    store.create("a", SPEC)


def test_an_unknown_name_is_told_with_the_nearest(store: VectorStore) -> None:
    store.create("products", SPEC)
    store.set_alias("goods", "products")
    with pytest.raises(NotFound, match="no collection 'product'; nearest: 'products'"):
        store.collection("product")
    with pytest.raises(NotFound, match="no collection 'good'; nearest: 'goods'"):
        store.collection("good")


def test_there_are_at_most_so_many(store: VectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "COLLECTIONS_MAX", 2)
    monkeypatch.setattr(names, "COLLECTION_ALIASES_MAX", 1)
    store.create("a", SPEC)
    name = store.snapshot("a").name
    store.create("b", SPEC)
    with pytest.raises(ResourceExhausted, match="there are 2 collections"):
        store.create("c", SPEC)
    with pytest.raises(ResourceExhausted, match="there are 2 collections"):
        store.restore("c", name, source="a")
    store.restore("b", name, source="a")
    store.set_alias("x", "a")
    with pytest.raises(ResourceExhausted, match="there would be 2 aliases"):
        store.set_alias("y", "a")


def test_an_altered_collection_is_altered_after_a_restart(store: VectorStore, tmp_path: Path) -> None:
    fill(store.create("a", SPEC), 1)
    store.set_alias("also", "a")
    store.alter("also", WIDER)
    with pytest.raises(FailedPrecondition, match="size is stored as 4, the spec says 8"):
        store.alter("a", OTHER)
    store.close()
    again = opened(tmp_path)
    assert again.collection("a").spec == WIDER
    assert ids_in(again.collection("a")) == [1]
    again.close()


# Aliases.


def test_an_alias_is_the_collection_it_points_at(store: VectorStore, tmp_path: Path) -> None:
    one, two = store.create("one", SPEC), store.create("two", SPEC)
    store.set_alias("current", "one")
    assert store.collection("current") is one
    assert store.describe("current").aliases == ("current",)
    store.set_alias("current", "two")
    assert store.collection("current") is two
    store.close()
    again = opened(tmp_path)
    assert again.aliases() == {"current": "two"}
    assert again.collection("current") is again.collection("two")
    again.drop_alias("current")
    with pytest.raises(NotFound, match="no collection 'current'"):
        again.collection("current")
    with pytest.raises(NotFound, match="no alias 'current'"):
        again.drop_alias("current")
    again.close()


def test_aliases_change_together_or_not_at_all(store: VectorStore) -> None:
    store.create("one", SPEC)
    store.create("two", SPEC)
    store.change_aliases({"blue": "one", "green": "two"})
    for wrong in ({"blue": "two", "green": "three"}, {"blue": "two", "red": None}, {"blue": "two", "one": "two"}):
        with pytest.raises((NotFound, FailedPrecondition)):
            store.change_aliases(wrong)
        assert store.aliases() == {"blue": "one", "green": "two"}
    store.change_aliases({"blue": "two", "green": None})
    assert store.aliases() == {"blue": "two"}


def test_a_reader_never_sees_an_alias_point_nowhere(store: VectorStore) -> None:
    collections = {store.create(name, SPEC) for name in ("one", "two")}
    store.set_alias("current", "one")
    wrong: list[object] = []
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            try:
                if store.collection("current") not in collections:
                    wrong.append("another")
            except VireoError as error:
                wrong.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(50):
        store.set_alias("current", "two" if turn % 2 else "one")
    ended.set()
    reader.join()
    assert wrong == []


def test_a_dropped_collection_takes_its_aliases_along(store: VectorStore, tmp_path: Path) -> None:
    store.create("a", SPEC)
    store.create("b", SPEC)
    store.change_aliases({"x": "a", "y": "b"})
    with pytest.raises(FailedPrecondition, match="'x' is an alias of collection 'a'"):
        store.drop("x")
    store.drop("a")
    assert store.aliases() == {"y": "b"}
    store.close()
    again = opened(tmp_path)
    assert again.aliases() == {"y": "b"}
    again.close()


def test_an_alias_cannot_point_at_an_alias_or_nothing(store: VectorStore) -> None:
    store.create("a", SPEC)
    store.set_alias("x", "a")
    for name in ("x", "y"):
        with pytest.raises(NotFound, match=f"alias 'z': no collection '{name}'"):
            store.set_alias("z", name)


def test_damaged_aliases_are_told_and_nothing_is_lost(store: VectorStore, tmp_path: Path) -> None:
    store.create("a", SPEC)
    store.set_alias("x", "a")
    store.close()
    file = tmp_path / "store" / "aliases.json"
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b'"x":"a"', b'"x":"b"'))
    with pytest.raises(DataLoss, match=r"aliases.json': is damaged"):
        opened(tmp_path)
    file.write_bytes(whole)
    again = opened(tmp_path)
    assert again.aliases() == {"x": "a"}
    again.close()


# Snapshots.


def test_a_snapshot_brings_back_what_was(store: VectorStore, tmp_path: Path) -> None:
    collection = store.create("a", SPEC)
    fill(collection, 1, 2, 3)
    taken = store.snapshot("a")
    assert (taken.collection, taken.points, taken.problem) == ("a", 3, None)
    assert taken.bytes > 0
    assert taken.offset == collection.view.offset
    fill(collection, 4)
    collection.delete([1])
    restored = store.restore("a", taken.name)
    assert store.collection("a") is restored
    assert ids_in(restored) == [1, 2, 3]
    fill(restored, 9)
    assert store.snapshots("a") == (taken,)
    store.close()
    again = opened(tmp_path)
    assert ids_in(again.collection("a")) == [1, 2, 3, 9]
    again.close()


def test_a_snapshot_may_become_another_collection(store: VectorStore) -> None:
    fill(store.create("a", SPEC), 1)
    taken = store.snapshot("a")
    store.drop("a")
    assert store.snapshots("a") == (taken,)
    assert ids_in(store.restore("b", taken.name, source="a")) == [1]
    assert store.names() == ("b",)
    assert ids_in(store.restore("a", taken.name)) == [1]


def test_readers_see_the_old_or_the_new_while_one_is_restored(store: VectorStore) -> None:
    fill(store.create("a", SPEC), 1, 2, 3)
    taken = store.snapshot("a")
    fill(store.collection("a"), 4)
    seen: list[object] = []
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            try:
                seen.append(tuple(ids_in(store.collection("a"))))
            except VireoError as error:
                seen.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    while not seen:
        pass
    for _ in range(3):
        store.restore("a", taken.name)
    ended.set()
    reader.join()
    assert set(seen) <= {(1, 2, 3, 4), (1, 2, 3)}


def test_a_torn_snapshot_changes_nothing(store: VectorStore, tmp_path: Path) -> None:
    collection = store.create("a", SPEC)
    fill(collection, 1, 2)
    taken = store.snapshot("a")
    fill(collection, 3)
    folder = tmp_path / "store" / "snapshots" / "a" / taken.name
    whole = tmp_path / "whole"
    shutil.copytree(folder, whole)
    files = sorted(each.relative_to(whole) for each in whole.rglob("*") if each.is_file())
    assert len(files) > 3
    for each in files:
        for damage in (lambda data: data[: len(data) // 2], lambda data: bytes([data[0] ^ 255]) + data[1:], None):
            shutil.rmtree(folder)
            shutil.copytree(whole, folder)
            content = (folder / each).read_bytes()
            (folder / each).unlink() if damage is None else (folder / each).write_bytes(damage(content))
            with pytest.raises((DataLoss, FailedPrecondition)):
                store.restore("a", taken.name)
            assert store.collection("a") is collection
    fill(collection, 4)
    assert ids_in(collection) == [1, 2, 3, 4]
    assert store.problems() == {}
    assert not list((tmp_path / "store" / "drafts").iterdir())


def test_a_folder_that_is_no_snapshot_is_told_as_one_with_a_problem(store: VectorStore, tmp_path: Path) -> None:
    store.create("a", SPEC)
    folder = tmp_path / "store" / "snapshots" / "a"
    (folder / "foreign").mkdir(parents=True)
    (folder / "foreign" / "manifest.json").write_text(
        '{"format":"vireo.segment","version":1,"crc32":"00000000","body":{}}\n'
    )
    [told] = store.snapshots("a")
    assert told.name == "foreign"
    assert told.problem is not None
    with pytest.raises(DataLoss):
        store.restore("a", "foreign")
    with pytest.raises(NotFound, match="collection 'a' has no snapshot 'foreing'; nearest: 'foreign'"):
        store.restore("a", "foreing")
    store.drop_snapshot("a", "foreign")
    assert store.snapshots("a") == ()


def test_snapshots_are_dropped_and_bounded(store: VectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_folder, "COLLECTION_SNAPSHOTS_MAX", 2)
    store.create("a", SPEC)
    one, two = store.snapshot("a"), store.snapshot("a")
    assert one.name != two.name
    with pytest.raises(ResourceExhausted, match="has 2 snapshots, as many as are kept"):
        store.snapshot("a")
    store.drop_snapshot("a", one.name)
    assert store.snapshots("a") == (two,)
    with pytest.raises(NotFound):
        store.drop_snapshot("a", one.name)
    store.snapshot("a")


# What the spec declares.


def test_declared_collections_are_made_and_follow_the_spec(tmp_path: Path) -> None:
    store = opened(tmp_path, a=SPEC)
    fill(store.collection("a"), 1)
    store.apply(Spec(vectors=VectorStoreSpec("store", {"a": WIDER, "b": OTHER}), folder=tmp_path))
    assert store.collection("a").spec == WIDER
    assert ids_in(store.collection("a")) == [1]
    assert store.names() == ("a", "b")
    store.close()
    again = opened(tmp_path, a=SPEC)
    assert again.collection("a").spec == SPEC
    assert again.names() == ("a", "b")
    again.close()


def test_a_declaration_that_cannot_be_followed_is_a_problem_and_the_collection_serves_on(tmp_path: Path) -> None:
    store = opened(tmp_path, a=SPEC)
    fill(store.collection("a"), 1)
    store.close()
    again = opened(tmp_path, a=OTHER, b=SPEC)
    assert again.problems() == {"collection a": "vector 'v': size is stored as 4, the spec says 8"}
    assert again.describe("a").problem == "vector 'v': size is stored as 4, the spec says 8"
    assert ids_in(again.collection("a")) == [1]
    again.apply(Spec(vectors=VectorStoreSpec("store", {"a": SPEC}), folder=tmp_path))
    assert again.problems() == {}
    again.close()


def test_clients_do_not_change_what_is_declared(tmp_path: Path) -> None:
    store = opened(tmp_path, a=SPEC)
    with pytest.raises(FailedPrecondition, match="collection 'a' is declared in the spec"):
        store.alter("a", WIDER)
    with pytest.raises(FailedPrecondition, match="collection 'a' is declared in the spec"):
        store.drop("a")
    assert store.describe("a").declared
    store.create("b", SPEC)
    store.drop("b")
    store.close()


def test_a_fixed_store_is_changed_by_its_spec_alone(tmp_path: Path) -> None:
    store = opened(tmp_path, a=SPEC)
    store.create("b", SPEC)
    fill(store.collection("a"), 1)
    taken = store.snapshot("a")
    store.close()
    fixed = opened(tmp_path, a=SPEC, fixed=True)
    for call in (
        lambda: fixed.create("c", SPEC),
        lambda: fixed.alter("b", WIDER),
        lambda: fixed.drop("b"),
        lambda: fixed.set_alias("x", "a"),
        lambda: fixed.drop_alias("x"),
        lambda: fixed.restore("c", taken.name, source="a"),
    ):
        with pytest.raises(FailedPrecondition, match="fixed"):
            call()
    fill(fixed.collection("b"), 1)
    fill(fixed.collection("a"), 2)
    assert ids_in(fixed.restore("a", taken.name)) == [1]
    fixed.close()


def test_a_declared_collection_is_restored_as_it_is_declared(tmp_path: Path) -> None:
    store = opened(tmp_path, a=SPEC)
    fill(store.collection("a"), 1)
    taken = store.snapshot("a")
    store.close()
    wider = opened(tmp_path, a=WIDER)
    assert wider.restore("a", taken.name).spec == WIDER
    wider.create("b", OTHER).upsert(points_of(OTHER, [{"id": 1, "vector": {"v": [1.0] * 8}}]))
    other = wider.snapshot("b")
    with pytest.raises(FailedPrecondition, match=r"snapshot '.*': vector 'v': size is stored as 8, the spec says 4"):
        wider.restore("a", other.name, source="b")
    assert ids_in(wider.collection("a")) == [1]
    wider.close()


# What is broken.


def test_one_broken_collection_does_not_keep_the_others_from_serving(tmp_path: Path) -> None:
    store = opened(tmp_path, a=SPEC)
    store.create("b", SPEC)
    store.set_alias("to_b", "b")
    fill(store.collection("b"), 1)
    taken = store.snapshot("b")
    store.close()
    (tmp_path / "store" / "collections" / "b" / "manifest.json").write_bytes(b"{}")
    again = opened(tmp_path, a=SPEC)
    assert list(again.problems()) == ["collection b"]
    assert "is torn or damaged" in again.problems()["collection b"]
    for name in ("b", "to_b"):
        with pytest.raises(DataLoss, match=r"collection 'b' is not served: .*torn or damaged"):
            again.collection(name)
        assert "torn" in str(again.describe(name).problem)
    assert again.names() == ("a", "b")
    fill(again.collection("a"), 1)
    with pytest.raises(FailedPrecondition, match="is there already"):
        again.create("b", SPEC)
    assert ids_in(again.restore("b", taken.name)) == [1]
    assert again.collection("to_b") is again.collection("b")
    assert again.problems() == {}
    again.close()


def test_a_broken_collection_can_be_dropped(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.create("a", SPEC)
    store.close()
    (tmp_path / "store" / "collections" / "a" / "manifest.json").unlink()
    again = opened(tmp_path)
    with pytest.raises(DataLoss):
        again.collection("a")
    again.drop("a")
    assert again.names() == ()
    assert again.problems() == {}
    again.create("a", SPEC)
    again.close()


def test_a_store_is_open_once(store: VectorStore, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"vector store .* is open already"):
        opened(tmp_path)
    store.close()
    opened(tmp_path).close()


def test_a_store_that_cannot_be_opened_leaves_the_one_that_serves(store: VectorStore, tmp_path: Path) -> None:
    store.create("a", SPEC)
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot open the vector store"):
        store.apply(Spec(vectors=VectorStoreSpec("file"), folder=tmp_path))
    assert store.names() == ("a",)
    store.apply(Spec(vectors=VectorStoreSpec("elsewhere"), folder=tmp_path))
    assert store.names() == ()
    opened(tmp_path).close()  # nobody holds the first any more


def test_without_a_store_every_call_says_so(tmp_path: Path) -> None:
    store = VectorStore()
    store.apply(Spec())
    for call in (
        lambda: store.collection("a"), lambda: store.create("a", SPEC), lambda: store.drop("a"),
        lambda: store.set_alias("x", "a"), lambda: store.snapshot("a"), lambda: store.snapshots("a"),
    ):  # fmt: skip
        with pytest.raises(FailedPrecondition, match="the spec has no 'vectors'"):
            call()
    assert (store.names(), dict(store.aliases()), store.problems(), store.recall()) == ((), {}, {}, {})
    store.close()
    with pytest.raises(Unavailable, match="shutting down"):
        store.collection("a")


def test_after_the_end_nothing_is_taken(store: VectorStore) -> None:
    held = store.create("a", SPEC)
    store.close()
    store.close()
    with pytest.raises(Unavailable, match="shutting down"):
        store.create("b", SPEC)
    with pytest.raises(Unavailable):
        fill(held, 1)


# All at once.


def _changes(store: VectorStore, seed: int) -> None:
    """Random changes of three names and two aliases; what is refused is refused."""
    random = Random(seed)
    for _ in range(40):
        name, alias = random.choice(("a", "b", "c")), random.choice(("x", "y"))
        changes: list[Callable[[], object]] = [
            partial(store.create, name, SPEC),
            partial(store.drop, name),
            partial(store.set_alias, alias, name),
            partial(store.drop_alias, alias),
            partial(store.snapshot, name),
            partial(_restore_newest, store, name),
            partial(_fill_named, store, name, random.randrange(100)),
            partial(_search_named, store, alias),
            partial(store.alter, name, random.choice([SPEC, WIDER])),
        ]
        with suppress(NotFound, FailedPrecondition, Unavailable, InvalidArgument):  # altered between two steps of ours
            random.choice(changes)()


def _restore_newest(store: VectorStore, name: str) -> None:
    found = store.snapshots(name)
    if found:
        store.restore(name, found[-1].name)


def _fill_named(store: VectorStore, name: str, number: int) -> None:
    fill(store.collection(name), number)


def _search_named(store: VectorStore, name: str) -> None:
    ids_in(store.collection(name))


def test_changes_by_many_threads_leave_what_the_disk_has(store: VectorStore, tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def run(seed: int) -> None:
        try:
            _changes(store, seed)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert failures == []
    assert store.problems() == {}
    expected = {name: (store.collection(name).spec, ids_in(store.collection(name))) for name in store.names()}
    aliases = store.aliases()
    store.close()
    again = opened(tmp_path)
    assert {name: (again.collection(name).spec, ids_in(again.collection(name))) for name in again.names()} == expected
    assert again.aliases() == aliases
    again.close()
