"""A store of schema version 1, made by the code of that time, is brought to this version."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from nearlight.store import Store, StoreCorrupt, StoreError, migrating
from nearlight.store.migrating import SCHEMA_VERSION
from nearlight.store.schema import DATABASE_FILE


class Killed(StoreError):
    pass


OLD = Path(__file__).with_name("store_v1.sql")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    with closing(sqlite3.connect(tmp_path / DATABASE_FILE)) as connection:
        connection.executescript(OLD.read_text("utf-8"))
    return tmp_path


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrating, "_BLOCK_ROWS", 7)


def change(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / DATABASE_FILE)) as connection:
        connection.execute(statement)
        connection.commit()


def value_of(folder: Path, statement: str) -> object:
    with closing(sqlite3.connect(folder / DATABASE_FILE)) as connection:
        return connection.execute(statement).fetchone()[0]


def rows(folder: Path) -> Iterator[tuple[object, ...]]:
    with closing(sqlite3.connect(folder / DATABASE_FILE)) as connection:
        yield from connection.execute(
            "SELECT points.seq, id, payload, perceptual_hash, vector, image FROM points "
            "JOIN vectors USING (seq) LEFT JOIN images USING (seq) ORDER BY seq"
        )


def test_an_old_store_holds_after_its_migration_what_it_held(old: Path, small_blocks: None) -> None:
    before = list(rows(old))
    assert (len(before), value_of(old, "PRAGMA user_version")) == (39, 1)
    for _ in range(2):  # migrated, then as it is
        with Store.open(old) as store:
            assert store.aliases() == {"live": "photos"}
            photos, other = store.collection("live"), store.collection("other")
            assert [photos.count(), other.count()] == [37, 2]
            assert photos.get([5])[0].payload["n"] == -5
            assert [photos.verify().problems, other.verify().problems] == [[], []]
            assert store.label_sets.get("pets").labels[1].words == ("hound",)
            assert store.damaged_pages() == []
            store.snapshots.create("photos")
        assert list(rows(old)) == before
        assert value_of(old, "PRAGMA user_version") == SCHEMA_VERSION
        assert value_of(old, "SELECT count(*) FROM sqlite_schema WHERE name = 'migration'") == 0


def test_a_migration_that_was_killed_goes_on(
    old: Path, small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    reseal, n_blocks = migrating._reseal_block, 0

    def dies(connection: sqlite3.Connection) -> bool:
        nonlocal n_blocks
        n_blocks += 1
        if n_blocks % 3 == 0:
            raise Killed
        return reseal(connection)

    monkeypatch.setattr(migrating, "_reseal_block", dies)
    n_opened = 0
    for _ in range(5):
        with suppress(Killed), Store.open(old) as store:
            n_opened += 1
            assert store.collection("photos").verify().problems == []
            assert store.collection("other").verify().problems == []
    # Seven blocks (six of rows, one that finds no more), two of which each opening does.
    assert (n_opened, n_blocks) == (2, 3 + 3 + 3 + 1)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE points SET payload = '{}' WHERE seq = 20",
        "UPDATE points SET id = 'another' WHERE seq = 20",
    ],
)
def test_a_row_that_was_damaged_before_is_refused_still(old: Path, damage: str) -> None:
    change(old, damage)
    with Store.open(old) as store:
        photos = store.collection("photos")
        assert photos.get([17])[0].payload["n"] == 17
        with pytest.raises(StoreCorrupt, match="the point of seq 20 is not what was written"):
            photos.scroll(limit=100)
        assert [one.kind for one in photos.verify().problems] == ["point_damaged"]
