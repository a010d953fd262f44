"""Calibrations of collections: durable, each its own, never in the way of a start."""

import hashlib
import sqlite3
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from nearlight.store import Collection, InvalidQuery, Nulls, Point, Store

F32 = npt.NDArray[np.float32]


def rows(seed: int, n: int) -> F32:
    found = np.random.default_rng(seed).normal(size=(n, 4))
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def filled(store: Store, name: str, seed: int, n: int = 80) -> Collection:
    collection = store.create_collection(name, space_id="s", dim=4)
    collection.upsert([Point(i, row, {}) for i, row in enumerate(rows(seed, n))])
    return collection


def numbers(nulls: Nulls) -> dict[str, tuple[object, ...]]:
    return {
        name: (
            *one.weights,
            one.location,
            one.scale,
            one.n_points,
            one.growth,
            one.midpoint,
            one.bank.tobytes(),
        )
        for name, one in nulls.items()
    }


def test_a_calibration_outlives_the_store_and_is_of_its_collection_only(tmp_path: Path) -> None:
    with Store.open(tmp_path, n_threads=1) as store:
        first, second = filled(store, "first", 1), filled(store, "second", 2)
        filled(store, "third", 3)
        made = [
            numbers(store.calibrations.fit(first, rows(9, 20))),
            numbers(store.calibrations.fit(second, None)),
        ]
    assert [set(one) for one in made] == [{"image", "text"}, {"image"}]
    assert made[0]["image"] != made[1]["image"]
    for _ in range(2):
        with Store.open(tmp_path, n_threads=1) as store:
            get = store.calibrations.get
            assert [numbers(get(store.collection(name))) for name in ("first", "second")] == made
            assert not get(store.collection("third"))


def test_the_name_taken_again_is_not_calibrated(tmp_path: Path) -> None:
    with Store.open(tmp_path, n_threads=1) as store:
        store.calibrations.fit(filled(store, "c", 1), None)
        store.delete_collection("c")
        again = filled(store, "c", 2)
        assert not store.calibrations.get(again)
        other = filled(store, "other", 3)
        store.calibrations.fit(other, None)  # forgets the one that is gone
    with sqlite3.connect(tmp_path / "store.sqlite3") as connection:
        (text,) = connection.execute("SELECT calibration FROM spaces").fetchone()
    connection.close()
    assert text.count("location") == 1


def test_a_fit_replaces_the_one_before(store: Store) -> None:
    collection = filled(store, "c", 1)
    before = numbers(store.calibrations.fit(collection, rows(9, 20)))
    collection.upsert([Point(f"more {i}", row, {}) for i, row in enumerate(rows(5, 40))])
    after = numbers(store.calibrations.fit(collection, None))
    assert set(after) == {"image"}
    assert (before["image"][5], after["image"][5]) == (80, 120)


def test_too_few_points_change_nothing(store: Store) -> None:
    collection = filled(store, "c", 1, n=49)
    with pytest.raises(InvalidQuery, match="49"):
        store.calibrations.fit(collection, None)
    assert not store.calibrations.get(collection)


@pytest.mark.parametrize(
    "damage",
    ["no json", "[]", '{"collections": {"1": {"image": {"scale": -1}}}}', '{"collections": {"1": 7}}'],
)
def test_a_damaged_calibration_is_left_out_and_can_be_made_again(tmp_path: Path, damage: str) -> None:
    with Store.open(tmp_path, n_threads=1) as store:
        store.calibrations.fit(filled(store, "c", 1), None)
    with sqlite3.connect(tmp_path / "store.sqlite3") as connection:
        connection.execute("UPDATE spaces SET calibration = ?", (damage,))
    connection.close()
    with Store.open(tmp_path, n_threads=1) as store:
        collection = store.collection("c")
        assert not store.calibrations.get(collection)
        assert len(collection.search(rows(1, 1), limit=3)[0]) == 3
        store.calibrations.fit(collection, None)
    with Store.open(tmp_path, n_threads=1) as store:
        assert store.calibrations.get(store.collection("c"))


def test_a_snapshot_carries_calibration_and_durability(tmp_path: Path) -> None:
    with Store.open(tmp_path / "one") as store:
        collection = filled(store, "a", 1)
        other = filled(store, "b", 2)
        fitted = store.calibrations.fit(collection, rows(3, 20))
        store.calibrations.fit(other, None)
        collection.update(durability="relaxed")
        snapshot = store.snapshots.create("a").name
        plain = store.snapshots.create(filled(store, "plain", 4).info.name).name
    (tmp_path / "one" / "snapshots").rename(tmp_path / "snapshots")
    for turn in range(2):  # as restored, and after a restart
        with Store.open(tmp_path / "two") as store:
            if turn == 0:
                (tmp_path / "two" / "snapshots").symlink_to(tmp_path / "snapshots")
                store.snapshots.restore(snapshot, "again")
                store.snapshots.restore(plain, "plain")
            again = store.collection("again")
            assert numbers(store.calibrations.get(again)) == numbers(fitted)
            assert again.info.durability == "relaxed"
            assert store.calibrations.get(store.collection("plain")) == {}
            assert store.collection("plain").info.durability == "full"


def test_an_older_snapshot_without_them_is_restored(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.calibrations.fit(filled(store, "a", 1), None)
        made = store.snapshots.create("a")
        file = tmp_path / "snapshots" / f"{made.name}.sqlite3"
        connection = sqlite3.connect(file)
        connection.execute("DROP TABLE about")
        connection.commit()
        connection.close()
        described = file.with_suffix(".json")
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        described.write_text(described.read_text("utf-8").replace(made.sha256, sha256), "utf-8")
        again = store.snapshots.restore(made.name, "again")
        assert again.count() == 80
        assert store.calibrations.get(again) == {}
