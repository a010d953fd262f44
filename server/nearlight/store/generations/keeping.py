"""The thread that keeps the indexes: it sees what is due, has it built in a process apart, and publishes it.

Due is an index that a collection has outgrown, is too large to be without, has too many dead rows in, or was
built with other settings. Nothing of it is needed for an answer: while there is no index, or after a bad
file, searches compare every vector.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from nearlight.store.errors import IndexBuildFailed, IndexFileBad, StoreClosed, StoreError
from nearlight.store.generations.builder import memory_budget, run_build
from nearlight.store.generations.building import BuildOrder, Built
from nearlight.store.generations.publishing import (
    IndexFile,
    forget_files,
    name_file,
    named_files,
    next_generation,
    open_generation,
    read_checked,
    settle_file,
    sweep,
)
from nearlight.store.generations.settings import BuildPlan, IndexSettings, plan_for
from nearlight.store.generations.work import IndexWork
from nearlight.store.points import F32
from nearlight.store.rows import Place
from nearlight.store.schema import DATABASE_FILE
from nearlight.store.view import Head
from nearlight.store.writer import Transaction, Writer

LOOK_SECONDS = 0.5
HEAD_ROWS = 50_000
HEAD_SHARE = 0.1
MIN_DEAD = 1024
DEAD_SHARE = 0.2
_ENOUGH_TEXTS = 64
_RETRY_SECONDS = 5.0
_MOST_RETRY_SECONDS = 600.0
_log = logging.getLogger(__name__)

AskTexts = Callable[[str], F32 | None]
"""Text queries (T, D) typical for a space, by its space_id; None where nobody embeds texts into it."""


class Indexed(Protocol):
    """What the keeper needs of a collection."""

    @property
    def place(self) -> Place:
        """Of its rows."""

    @property
    def head(self) -> Head:
        """Of its vectors."""

    @property
    def space_id(self) -> str:
        """Of its vectors."""

    @property
    def last_seq(self) -> int:
        """Of its last write."""

    @property
    def work(self) -> IndexWork:
        """On its index."""

    @property
    def is_gone(self) -> bool:
        """It was deleted."""


class IndexKeeper:
    """Keeps the indexes of a store's collections.

    Args:
        folder: of the index files.
        writer: of the store.
        collections: those there are now.
        n_threads: for building; all CPUs of the process by default, at the lowest priority.
    """

    def __init__(
        self,
        folder: Path,
        writer: Writer,
        collections: Callable[[], Iterable[Indexed]],
        n_threads: int | None = None,
    ) -> None:
        self.ask_texts: AskTexts | None = None
        self.budget_bytes = memory_budget()
        self._folder = folder
        self._writer = writer
        self._collections = collections
        self.n_threads = n_threads or len(os.sched_getaffinity(0))
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._quiet = threading.Condition()
        self._n_looks = 0
        self._bad: list[Place] = []
        self._thread = threading.Thread(target=self._work, name="nearlight-store-indexes", daemon=True)

    def open(self, collection: Indexed, file: IndexFile) -> None:
        """Read the index of a collection that is being loaded; a bad one is put aside: another is due."""
        try:
            open_generation(self._folder, file, collection.head)
        except IndexFileBad as error:
            collection.work.is_degraded, collection.work.problem = True, str(error)
            self._bad.append(collection.place)
        else:
            collection.work.built_with = file.settings

    def start(self) -> None:
        """Begin to look after the collections, which are loaded."""
        for place in self._bad:
            self._writer.run(partial(_forget, place), lambda _: None)
        if self._folder.exists():
            sweep(self._folder, self._writer.run(lambda one: named_files(one.connection), lambda _: None))
        self._thread.start()

    def forget(self, collection: Indexed) -> None:
        """Remove the file of a collection that was deleted."""
        sealed = collection.head.view.sealed
        if sealed is not None:
            self._remove(sealed.generation.file_name)

    def close(self) -> None:
        """Stop; a build under way is given up."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def is_closing(self) -> bool:
        """Whether the store is being closed."""
        return self._stop.is_set()

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    def wait_until_kept(self, timeout_s: float) -> bool:
        """Wait until no index is due; returns False when it takes longer."""
        deadline = time.monotonic() + timeout_s
        with self._quiet:
            n_looks = self._n_looks
        while time.monotonic() < deadline and not self._stop.is_set():
            self.wake()
            with self._quiet:
                if self._n_looks >= n_looks + 2 and not any(self._due(one) for one in self._collections()):
                    return True
                self._quiet.wait(LOOK_SECONDS)
        return False

    def _work(self) -> None:
        while not self._stop.is_set():
            for collection in list(self._collections()):
                if self._stop.is_set():
                    break
                self._look_at(collection)
            with self._quiet:
                self._n_looks += 1
                self._quiet.notify_all()
            self._wake.wait(LOOK_SECONDS)
            self._wake.clear()

    def _look_at(self, collection: Indexed) -> None:
        work = collection.work
        if time.monotonic() < work.retry_at or not self._due(collection):
            return
        plan = self._plan(collection)
        try:
            if plan is None:
                self._unseal(collection)
            else:
                self._build(collection, plan)
            work.n_failures, work.problem, work.is_degraded = 0, "", False
        except (StoreError, OSError, MemoryError) as error:
            if not (self._stop.is_set() or collection.is_gone or isinstance(error, StoreClosed)):
                self._note_failure(work, error)

    def _note_failure(self, work: IndexWork, error: Exception) -> None:
        work.problem = str(error) or type(error).__name__
        work.retry_at = time.monotonic() + min(_RETRY_SECONDS * 2**work.n_failures, _MOST_RETRY_SECONDS)
        work.n_failures += 1
        _log.warning("no index was made, search stays as it is: %s", work.problem)

    def _plan(self, collection: Indexed) -> BuildPlan | None:
        n_points = collection.head.view.n_alive
        return plan_for(n_points, collection.place.dim, collection.work.settings, self.budget_bytes)

    def _due(self, collection: Indexed) -> bool:
        """Whether the index is not as it should be."""
        view, work = collection.head.view, collection.work
        sealed = view.sealed
        if collection.is_gone:
            return False
        plan = self._plan(collection)
        if sealed is None or plan is None:
            return (sealed is None) != (plan is None) and not (
                plan is None and self._is_worth_keeping(collection)
            )
        head = view.beside_sealed
        n_rows = sealed.generation.n_rows
        return (
            work.built_with != work.settings
            or head.n_alive > max(HEAD_ROWS, HEAD_SHARE * n_rows)
            or sealed.n_dead > max(MIN_DEAD, DEAD_SHARE * n_rows)
        )

    def _is_worth_keeping(self, collection: Indexed) -> bool:
        """A collection that shrank a little below the bound keeps its index: it would soon need it again."""
        work, view = collection.work, collection.head.view
        if work.built_with != work.settings or work.settings.kind == "exact" or view.sealed is None:
            return False
        return view.n_alive > view.sealed.generation.n_rows // 2

    def _unseal(self, collection: Indexed) -> None:
        """Search a collection exactly from now on."""
        old = collection.head.view.sealed
        place = collection.place

        self._writer.run(partial(_forget, place), lambda _: collection.head.seal(None))
        collection.work.built_with = None
        if old is not None:
            self._remove(old.generation.file_name)

    def _build(self, collection: Indexed, plan: BuildPlan) -> None:
        work, place, settings = collection.work, collection.place, collection.work.settings
        self._folder.mkdir(exist_ok=True)
        built_file = self._folder / f"building-{place.collection_id}.tmp"
        texts_file = self._folder / f"building-{place.collection_id}.npy"
        work.is_building = True
        try:
            order = BuildOrder(
                database=str(self._folder.parent / DATABASE_FILE),
                place=place,
                up_to_seq=self._cut(collection),
                plan=plan,
                file=str(built_file),
                texts=self._write_texts(collection, texts_file),
                n_threads=self.n_threads,
                budget_bytes=self.budget_bytes,
            )
            self._remove(built_file.name)
            built = run_build(order, self._stop)
            self._publish(collection, order, built, settings)
        finally:
            work.is_building = False
            self._remove(built_file.name)
            self._remove(texts_file.name)

    def _cut(self, collection: Indexed) -> int:
        """Let the rows that are written from now on begin a new chunk; returns the last seq before them."""
        seqs: list[int] = []

        def publish(_: None) -> None:
            seqs.append(collection.last_seq)
            collection.head.cut(seqs[0])

        self._writer.run(lambda _: None, publish)
        return seqs[0]

    def _write_texts(self, collection: Indexed, path: Path) -> str | None:
        texts = collection.work.text_queries(collection.place.dim)
        if len(texts) < _ENOUGH_TEXTS and self.ask_texts is not None:
            try:
                bank = self.ask_texts(collection.space_id)
            except Exception as error:  # whatever embeds texts: an index is built without them
                _log.warning("no texts to tune an index on: %s", error)
                bank = None
            texts = texts if bank is None else np.concatenate([texts, bank])
        if not len(texts):
            return None
        np.save(path, texts)
        return str(path)

    def _publish(self, collection: Indexed, order: BuildOrder, built: Built, settings: IndexSettings) -> None:
        """Name, sync, commit, swap; on any failure the collection is as it was before."""
        sha256 = bytes.fromhex(built.sha256)
        number = self._writer.run(lambda one: next_generation(one.connection), lambda _: None)
        generation = read_checked(Path(order.file), sha256, number, collection.head.view)
        path = self._folder / f"generation-{number}.index"
        generation.file_name = path.name
        old = collection.head.view.sealed

        def write(transaction: Transaction) -> None:
            if collection.is_gone or collection.place != order.place:
                raise IndexBuildFailed("the collection has become another while its index was built")
            name_file(transaction, order, built, path, settings, number)

        try:
            settle_file(Path(order.file), path)
            self._writer.run(write, lambda _: collection.head.seal(generation))
        except BaseException:
            self._remove(path.name)
            raise
        collection.work.built_with = settings
        if old is not None:
            self._remove(old.generation.file_name)

    def _remove(self, file_name: str) -> None:
        with suppress(OSError):  # it is gone, or the next sweep takes it
            (self._folder / file_name).unlink()


def _forget(place: Place, transaction: Transaction) -> None:
    forget_files(transaction.connection, place)
