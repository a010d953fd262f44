"""A publication that is cut off at any step: by a full disk, by a lost power."""

import os
import resource
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearlight.store import Collection, Point, SearchParams, Store
from nearlight.store.generations import builder, keeping, publishing
from nearlight.store.generations.building import build
from nearlight.store.generations.settings import IndexSettings
from tests.store.generations.conftest import DIM, GRAPH, clustered, index_files, kept

N = 400
VECTORS = clustered(N, 3)
FULL = OSError(28, "No space left on device")


def in_this_process(order: Any, stop: Any) -> Any:
    return build(order)


def filled(store: Store) -> Collection:
    collection = store.create_collection("c", space_id="s", dim=DIM, index=GRAPH)
    collection.upsert([Point(i, VECTORS[i], {}) for i in range(N)])
    return collection


def check_answers(collection: Collection) -> None:
    queries = clustered(8, 4)
    found = collection.answer(queries, limit=10, params=SearchParams(hnsw_ef=2000))
    true = [np.lexsort((np.arange(N), -(VECTORS @ query)))[:10].tolist() for query in queries]
    assert [[hit.id for hit in hits] for hits in found.hits] == true


def failing(*_: Any, **__: Any) -> Any:
    raise FULL


def failing_commit(*_: Any, **__: Any) -> None:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    raise error


STEPS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "folder": lambda patch: patch.setattr(Path, "mkdir", failing),
    "write": lambda patch: patch.setattr(os, "write", failing),
    "fsync of the file": lambda patch: patch.setattr(os, "fsync", failing),
    "rename": lambda patch: patch.setattr(os, "replace", failing),
    "fsync of the folder": lambda patch: patch.setattr(publishing, "sync_folder", failing),
    "commit": lambda patch: patch.setattr(keeping, "name_file", failing_commit),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_disk_that_is_full_at_any_step_changes_nothing(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "run_build", in_this_process)
    monkeypatch.setattr(keeping, "_RETRY_SECONDS", 3600.0)
    with Store.open(tmp_path / "data", n_threads=1) as store:
        with monkeypatch.context() as patch:
            STEPS[step](patch)
            collection = filled(store)
            assert not store.indexes.wait_until_kept(1.5)
            status = collection.info.index
        assert status.kind == "exact"
        assert "o space left" in status.problem or "no room left" in status.problem
        assert not index_files(tmp_path / "data")
        check_answers(collection)
        collection.upsert([Point("more", VECTORS[0], {})])  # the store took no harm
        collection.delete(["more"])
    with Store.open(tmp_path / "data", n_threads=1) as store:
        kept(store)
        collection = store.collection("c")
        assert (collection.info.index.kind, collection.info.index.problem) == ("hnsw", "")
        check_answers(collection)


@pytest.mark.parametrize("limit_bytes", [1, 10_000])
def test_a_builder_that_runs_out_of_disk_says_so(
    tmp_path: Path, limit_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process apart meets a real limit: its file may not become larger."""
    limited = (
        "import resource, runpy; "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_bytes}, {limit_bytes})); "
        "runpy.run_module('nearlight.store.generations.build_process', run_name='__main__')"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    monkeypatch.setattr(builder, "COMMAND", [sys.executable, "-P", "-c", limited])
    monkeypatch.setattr(keeping, "_RETRY_SECONDS", 3600.0)
    with Store.open(tmp_path, n_threads=1) as store:
        collection = filled(store)
        assert not store.indexes.wait_until_kept(0.1)
        while not collection.info.index.problem:
            store.indexes.wait_until_kept(0.2)
        assert "File too large" in collection.info.index.problem
        assert list((tmp_path / "indexes").iterdir()) == []
        check_answers(collection)


def test_a_builder_that_dies_is_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "COMMAND", [sys.executable, "-c", "import os; os.kill(os.getpid(), 11)"])
    monkeypatch.setattr(keeping, "_RETRY_SECONDS", 3600.0)
    with Store.open(tmp_path, n_threads=1) as store:
        collection = filled(store)
        while not collection.info.index.problem:
            store.indexes.wait_until_kept(0.1)
        assert "ended with -11" in collection.info.index.problem
        check_answers(collection)


class Disk:
    """What of the index folder is on the disk: contents as of a file's last fsync, names as of the folder's.

    Every call that changes something is a moment to lose the power at; an image of the data folder is kept
    for each, with the database as committed, for the files either way a disk may have it.
    """

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path, images: Path) -> None:
        self.folder = folder
        self.images = images
        self.n_images = 0
        self.content: dict[int, bytes] = {}  # inode to bytes on the disk
        self.names: dict[str, int] = {}  # on the disk
        self.calls: list[str] = []
        write, fsync, replace = os.write, os.fsync, os.replace

        def on_write(descriptor: int, content: Any) -> int:
            n = write(descriptor, content)
            if self.owns(descriptor):
                self.moment("write")
            return n

        def on_fsync(descriptor: int) -> None:
            fsync(descriptor)
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            if path == str(self.folder / "indexes"):
                self.names = {one.name: one.stat().st_ino for one in Path(path).iterdir()}
                self.moment("fsync of the folder")
            elif self.owns(descriptor):
                self.content[os.fstat(descriptor).st_ino] = Path(path).read_bytes()
                self.moment("fsync of the file")

        def on_replace(source: Any, target: Any) -> None:
            replace(source, target)
            self.moment("rename")

        patch.setattr(os, "write", on_write)
        patch.setattr(os, "fsync", on_fsync)
        patch.setattr(os, "replace", on_replace)

    def owns(self, descriptor: int) -> bool:
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(self.folder / "indexes"))

    def moment(self, call: str) -> None:
        self.calls.append(call)
        if self.calls[-2:] == ["write", "write"] and len(self.calls) % 7:
            return  # a file is written in many pieces; some will do
        now = {one.name: one.stat().st_ino for one in (self.folder / "indexes").iterdir()}
        for names in (
            self.names,
            now,
        ):  # names reach the disk with the folder's fsync, or by themselves before
            image = self.images / str(self.n_images)
            self.n_images += 1
            (image / "indexes").mkdir(parents=True)
            for path in self.folder.glob("store.sqlite3*"):
                if not path.name.endswith("-shm"):
                    shutil.copy(path, image)
            for name, inode in names.items():
                (image / "indexes" / name).write_bytes(self.content.get(inode, b""))


def test_a_lost_power_loses_no_index_that_the_database_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "run_build", in_this_process)
    folder, images = tmp_path / "data", tmp_path / "images"
    with Store.open(folder, n_threads=1) as store, monkeypatch.context() as patch:
        disk = Disk(patch, folder, images)
        collection = filled(store)
        kept(store)
        collection.update(index=IndexSettings(kind="hnsw", hnsw_m=8))  # one takes the other's place
        kept(store)
        disk.moment("end")
    assert {"write", "fsync of the file", "rename", "fsync of the folder"} <= set(disk.calls)
    kinds = set()
    for number in range(disk.n_images):
        with monkeypatch.context() as patch:
            patch.setattr(keeping.IndexKeeper, "_due", lambda *_: False)
            with Store.open(images / str(number), n_threads=1) as store:
                status = store.collection("c").info.index
                assert status.state == "ready", (number, status)
                kinds.add(status.kind)
                if store.collection("c").count() == N:
                    check_answers(store.collection("c"))
    assert kinds == {"exact", "hnsw"}
