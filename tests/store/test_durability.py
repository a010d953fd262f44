"""Relaxed writes: what they wait for, what a lost machine may take, what it may not."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearlight.store import Collection, InvalidCollection, Point, Store, StoreError, Terms
from nearlight.store import writer as writer_module
from nearlight.store.schema import DATABASE_FILE
from nearlight.store.writer import Transaction

NORMAL, FULL = 1, 2


def put(collection: Collection, point_id: int, **how: Any) -> None:
    collection.upsert_on(Terms(), [Point(point_id, np.ones(4), {"n": point_id})], **how)


def mode_of(store: Store, *, is_relaxed: bool) -> int:
    """SQLite's synchronous as a write sees it."""

    def look(transaction: Transaction) -> int:
        return int(transaction.connection.execute("PRAGMA synchronous").fetchone()[0])

    return store._writer.run(look, lambda _: None, is_relaxed=is_relaxed)


def wait_for(is_true: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not is_true():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_only_relaxed_writes_do_not_wait_for_the_disk(store: Store) -> None:
    assert mode_of(store, is_relaxed=False) == FULL
    assert mode_of(store, is_relaxed=True) == NORMAL
    assert mode_of(store, is_relaxed=False) == FULL


def test_a_collection_keeps_its_durability_and_a_call_overrides_it(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.create_collection("full", space_id="s", dim=4)
        relaxed = store.create_collection("relaxed", space_id="s", dim=4, durability="relaxed")
        relaxed.update(metadata={"a": 1})
    with Store.open(tmp_path) as store:
        full, relaxed = store.collection("full"), store.collection("relaxed")
        assert (full.info.durability, relaxed.info.durability) == ("full", "relaxed")
        assert relaxed.info.metadata == {"a": 1}
        assert relaxed._is_relaxed(None)
        assert not relaxed._is_relaxed("full")
        assert full._is_relaxed("relaxed")
        relaxed.update(durability="full")
        full.update(durability="relaxed")
    with Store.open(tmp_path) as store:
        kept = {info.name: (info.durability, info.metadata) for info in store.collections()}
        assert kept == {"full": ("relaxed", {}), "relaxed": ("full", {"a": 1})}


@pytest.mark.parametrize(
    "write",
    [
        lambda collection, how: put(collection, 1, durability=how),
        lambda collection, how: collection.delete([0], durability=how),
        lambda collection, how: collection.set_payload([0], {"b": 1}, durability=how),
        lambda collection, how: collection.delete_payload([0], durability=how),
    ],
)
def test_every_kind_of_write_takes_its_durability(collection: Collection, write: Any) -> None:
    put(collection, 0)
    writer = collection._writer
    write(collection, "relaxed")
    assert writer._is_relaxed
    put(collection, 0)
    assert not writer._is_relaxed


def test_what_is_no_durability_is_refused(store: Store, collection: Collection) -> None:
    message = "durability is 'none'; it must be full or relaxed"
    with pytest.raises(InvalidCollection, match=message):
        store.create_collection("b", space_id="s", dim=4, durability="none")  # type: ignore[arg-type]
    with pytest.raises(InvalidCollection, match=message):
        collection.update(durability="none")  # type: ignore[arg-type]


class LostMachine:
    """A copy of the store as the disk has it when the power goes: the log ends where it was last synced."""

    def __init__(self, folder: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._copy = folder, copy
        self._log_file = folder / f"{DATABASE_FILE}-wal"
        self.log: bytes | None = None  # as it was synced last
        self.n_syncs = 0
        sync = os.fsync

        def noted(descriptor: int) -> None:
            sync(descriptor)
            if os.readlink(f"/proc/self/fd/{descriptor}").endswith("-wal"):
                self.log, self.n_syncs = self._log_file.read_bytes(), self.n_syncs + 1

        monkeypatch.setattr(os, "fsync", noted)

    def ids(self) -> set[int | str]:
        shutil.rmtree(self._copy, ignore_errors=True)
        self._copy.mkdir()
        shutil.copy(self._folder / DATABASE_FILE, self._copy)
        log = self._log_file.read_bytes() if self.log is None else self.log
        (self._copy / self._log_file.name).write_bytes(log)
        with Store.open(self._copy) as store:
            return {record.id for record in store.collection("a").scroll(limit=1000)[0]}


def test_a_lost_machine_takes_only_what_was_relaxed_since_the_last_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "RELAXED_SYNC_SECONDS", 0.3)
    with Store.open(tmp_path / "data") as store:
        collection = store.create_collection("a", space_id="s", dim=4, durability="relaxed")
        machine = LostMachine(tmp_path / "data", tmp_path / "copy", monkeypatch)
        put(collection, 1)
        wait_for(lambda: machine.n_syncs == 1)  # though nobody writes any more
        monkeypatch.setattr(writer_module, "RELAXED_SYNC_SECONDS", 60.0)
        put(collection, 2)
        assert machine.ids() == {1}
        time.sleep(0.4)
        assert machine.n_syncs == 1  # nothing to sync is not synced again and again
        put(collection, 3, durability="full")
        machine.log = None  # SQLite has synced the log as a whole
        assert machine.ids() == {1, 2, 3}
        put(collection, 4)
    assert machine.n_syncs == 2  # closing syncs what is left


def test_a_stream_of_relaxed_writes_is_synced_while_it_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "RELAXED_SYNC_SECONDS", 0.05)
    with Store.open(tmp_path / "data") as store:
        collection = store.create_collection("a", space_id="s", dim=4, durability="relaxed")
        machine = LostMachine(tmp_path / "data", tmp_path / "copy", monkeypatch)
        until = time.monotonic() + 10
        while machine.n_syncs < 3:  # the writer never rests
            put(collection, 1)
            assert time.monotonic() < until


def test_a_disk_that_does_not_sync_stops_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "RELAXED_SYNC_SECONDS", 0.01)
    with Store.open(tmp_path) as store:
        collection = store.create_collection("a", space_id="s", dim=4, durability="relaxed")

        def fails(descriptor: int) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "fsync", fails)
        put(collection, 1)
        wait_for(lambda: store._writer._failure is not None)
        with pytest.raises(StoreError, match="the store stopped after an internal failure"):
            put(collection, 2)


KILLED = """
import os, sys
from pathlib import Path
import numpy as np
from nearlight.store import Point, Store
store = Store.open(Path(sys.argv[1]), n_threads=1)
collection = store.create_collection("a", space_id="s", dim=4, durability="relaxed")
n = 0
while True:
    collection.upsert([Point(n, np.ones(4), {"n": n})])
    os.write(1, f"{n}\\n".encode())
    n += 1
"""


def test_a_killed_process_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    for turn in range(3):
        folder = tmp_path / str(turn)
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE, text=True
        )
        with process:
            assert process.stdout is not None
            told = [process.stdout.readline() for _ in range(40 + 77 * turn)]
            process.kill()
            told += process.stdout.readlines()
        acknowledged = {int(line) for line in told if line.endswith("\n")}
        with Store.open(folder) as store:
            stored = {record.id for record in store.collection("a").scroll(limit=100_000)[0]}
        assert acknowledged <= stored <= acknowledged | {len(acknowledged)}
