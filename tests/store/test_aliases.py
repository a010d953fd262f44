import threading
from pathlib import Path

import pytest

from nearlight.store import (
    AliasChange,
    AliasNotFound,
    CollectionExists,
    CollectionNotFound,
    DeleteAlias,
    InvalidCollection,
    Point,
    SetAlias,
    Store,
)


def made(store: Store, *names: str) -> None:
    for name in names:
        store.create_collection(name, space_id="s", dim=2)


def test_aliases_are_made_moved_and_removed_and_survive_a_reopen(tmp_path: Path) -> None:
    with Store.open(tmp_path, n_threads=1) as store:
        made(store, "old", "new")
        store.update_aliases([SetAlias("live", "old"), SetAlias("b", "old"), SetAlias("gone", "new")])
        assert store.collection("live").info.name == "old"
        assert store.collection("old").info.aliases == ("b", "live")
        store.update_aliases([SetAlias("live", "new"), DeleteAlias("gone")])
        assert store.collection("live").info.name == "new"
        store.collection("live").upsert([Point("a", [1, 0], {})])
    with Store.open(tmp_path, n_threads=1) as store:
        assert store.aliases() == {"b": "old", "live": "new"}
        assert store.collection("new").info.aliases == ("live",)
        assert store.collection("live").count() == 1
        store.delete_collection("new")
        assert store.aliases() == {"b": "old"}
        with pytest.raises(CollectionNotFound):
            store.collection("live")
        made(store, "live")
    with Store.open(tmp_path, n_threads=1) as store:
        assert store.collection("live").count() == 0


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (SetAlias(".x", "a"), InvalidCollection, "alias is '.x'"),
        (SetAlias("a", "b"), CollectionExists, "'a' is the name of a collection"),
        (SetAlias("x", "none"), CollectionNotFound, "there is no collection 'none'"),
        (SetAlias("x", "first"), CollectionNotFound, "there is no collection 'first'"),
        (DeleteAlias("none"), AliasNotFound, "there is no alias 'none'"),
    ],
)
def test_all_changes_or_none(store: Store, change: AliasChange, kind: type[Exception], words: str) -> None:
    made(store, "a", "b")
    with pytest.raises(kind, match=words):
        store.update_aliases([SetAlias("first", "a"), change, SetAlias("last", "b")])
    assert store.aliases() == {}


def test_an_alias_takes_the_name_and_cannot_be_deleted_as_a_collection(store: Store) -> None:
    made(store, "a")
    store.update_aliases([SetAlias("x", "a")])
    with pytest.raises(CollectionExists, match="'x' is an alias already"):
        made(store, "x")
    with pytest.raises(CollectionNotFound, match="'x' is an alias of collection 'a'"):
        store.delete_collection("x")
    assert store.collection("x").info.name == "a"


def test_two_aliases_swap_as_one_for_every_reader(store: Store) -> None:
    made(store, "a", "b")
    store.update_aliases([SetAlias("blue", "a"), SetAlias("green", "b")])
    stop, seen = threading.Event(), set()

    def read() -> None:
        while not stop.is_set():
            seen.add(tuple(store.aliases().values()))

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(60):
        one, other = ("b", "a") if i % 2 == 0 else ("a", "b")
        store.update_aliases([SetAlias("blue", one), SetAlias("green", other)])
    stop.set()
    reader.join()
    assert seen == {("a", "b"), ("b", "a")}
