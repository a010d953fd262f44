"""A change of a small table that no write made is found; every write keeps the checksums."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from nearlight.store import DeleteAlias, IndexSettings, Point, SetAlias, Store, StoreCorrupt
from nearlight.store.label_sets import Label, LabelSet
from nearlight.store.schema import DATABASE_FILE

PETS = LabelSet(
    name="pets", space_id="s", dim=2, labels=(Label("cat"), Label("dog")), templates=("a {}",), model="m"
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed store in which every small table was written more than once."""
    folder = tmp_path_factory.mktemp("written")
    with Store.open(folder, n_threads=1) as store:
        for name in ("a", "b", "c"):
            collection = store.create_collection(name, space_id="s", dim=2, metadata={"of": name})
            collection.upsert([Point(i, [1, i], {"n": i}) for i in range(5)])
        collection.create_payload_index(("n",), "integer")
        collection.create_payload_index(("m",), "keyword")
        store.update_aliases([SetAlias("live", "a"), SetAlias("old", "b")])
        store.update_aliases([SetAlias("live", "c"), DeleteAlias("old")])
        collection.delete([1])
        collection.update(index=IndexSettings(kind="exact"))
        collection.update(metadata={"of": "c", "more": [1]})
        store.delete_collection("b")
        store.label_sets.put(PETS)
        store.label_sets.put(PETS)
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copy(written / DATABASE_FILE, tmp_path)
    return tmp_path


def change(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / DATABASE_FILE)) as connection:
        assert connection.execute(statement).rowcount > 0
        connection.commit()


def test_a_store_that_was_written_to_is_sound(folder: Path) -> None:
    with Store.open(folder) as store:
        assert store.aliases() == {"live": "c"}
        assert store.collection("live").info.metadata == {"of": "c", "more": [1]}
        assert store.label_sets.get("pets").labels == PETS.labels


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE aliases SET collection_id = 1", "table aliases: the row of alias 'live'"),
        ("UPDATE aliases SET alias = 'lite'", "table aliases: the row of alias 'lite'"),
        ("UPDATE collections SET name = 'd' WHERE name = 'c'", "table collections: .* 3 is not"),
        ("UPDATE collections SET metadata = '{\"of\":\"d\"}' WHERE name = 'a'", "table collections: .* 1 is"),
        ("UPDATE collections SET last_seq = last_seq - 1 WHERE name = 'a'", "table collections"),
        ("UPDATE spaces SET space_id = 'r'", "table spaces: the row of space_no 1"),
        ("UPDATE payload_indexes SET kind = 'number' WHERE kind = 'integer'", "table payload_indexes"),
        ("UPDATE sqlite_sequence SET seq = seq - 3 WHERE name = 'points'", "but holds seq"),
        ("UPDATE sqlite_sequence SET seq = 'x' WHERE name = 'points'", "lost its sequence"),
    ],
)
def test_a_changed_row_is_refused_at_open(folder: Path, statement: str, words: str) -> None:
    change(folder, statement)
    with pytest.raises(StoreCorrupt, match=words):
        Store.open(folder)


def test_a_changed_label_set_is_refused_and_the_others_serve(folder: Path) -> None:
    change(folder, "UPDATE label_sets SET labels = replace(labels, 'cat', 'bat')")
    with Store.open(folder) as store:
        assert store.collection("a").count() == 5
        with pytest.raises(StoreCorrupt, match="label set 'pets' is damaged: it is not what was written"):
            store.label_sets.get("pets")
        store.label_sets.put(PETS)
        assert store.label_sets.get("pets").labels == PETS.labels


def test_a_write_does_not_bless_what_was_damaged_before(folder: Path) -> None:
    with Store.open(folder) as store:
        change(folder, "UPDATE collections SET name = 'd' WHERE name = 'c'")
        collection = store.collection("c")
        collection.upsert([Point(9, [1, 1], {})])
        collection.update(metadata={"of": "nothing"})
    with pytest.raises(StoreCorrupt, match="table collections"):
        Store.open(folder)
