"""The store: a folder of collections."""

import json
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nearlight.store.aliases import AliasChange, aliases_of, change_aliases, load_aliases
from nearlight.store.calibrations import Calibrations
from nearlight.store.collection import Collection
from nearlight.store.creating import (
    KEEPS_ORIGINALS,
    check_collection,
    check_free,
    forget_collection,
    insert_collection,
    keep_setting,
)
from nearlight.store.duplicates import Duplicates
from nearlight.store.durability import Durabilities, Durability, check_durability
from nearlight.store.errors import CollectionNotFound, StoreClosed, StoreError, from_sqlite, shown
from nearlight.store.exact import Scanner
from nearlight.store.generations.keeping import IndexKeeper
from nearlight.store.generations.publishing import FOLDER as INDEX_FOLDER
from nearlight.store.generations.sampling import RecallSampler
from nearlight.store.generations.settings import CHOSEN, IndexSettings, store_settings
from nearlight.store.label_sets import LabelSets
from nearlight.store.loading import load_collections, open_writer
from nearlight.store.lock import FolderLock
from nearlight.store.points import CollectionInfo
from nearlight.store.readers import Readers
from nearlight.store.restoring import hidden_collections
from nearlight.store.row_cache import RowCache
from nearlight.store.rows import Place
from nearlight.store.schema import DATABASE_FILE
from nearlight.store.searching import Shared
from nearlight.store.snapshot_keeper import Snapshots
from nearlight.store.snapshots import FOLDER as SNAPSHOT_FOLDER
from nearlight.store.upgrades import Upgrades
from nearlight.store.view import Head
from nearlight.store.writer import Transaction, Writer


class Store:
    """The collections of one data folder. All methods block and may be called from any thread."""

    def __init__(self, writer: Writer, path: Path, lock: FolderLock, n_threads: int | None) -> None:
        """Made by `open`, which loads the collections next."""
        self._lock = lock
        self._readers = Readers(path)
        self._writer = writer
        self._scanner = Scanner(n_threads)
        self.sampler = RecallSampler(self._scanner)
        durabilities = Durabilities(self._writer, self._readers)
        self.row_cache = cache = RowCache()
        self._shared = Shared(self._writer, self._readers, self._scanner, self.sampler, durabilities, cache)
        self.label_sets = LabelSets(self._writer, self._readers)
        self.calibrations = Calibrations(self._writer, self._readers)
        self.duplicates = Duplicates()
        self._collections: dict[str, Collection] = {}
        self._aliases: dict[str, str] = {}  # to the name of a collection
        self._changing = threading.Lock()  # guards both; never held while waiting for the writer
        self._closed = False
        self.indexes = IndexKeeper(path.parent / INDEX_FOLDER, self._writer, self._handles)
        self.upgrades = Upgrades(self._shared, self.collection, self._adopt)
        self.snapshots = Snapshots(
            path.parent / SNAPSHOT_FOLDER, self._shared, self.collection, self._adopt, self.calibrations
        )

    @classmethod
    def open(cls, folder: Path, *, n_threads: int | None = None) -> Self:
        """Open a data folder, or make a new one, and load its vectors into memory.

        Args:
            folder: made if it does not exist; on a local disk.
            n_threads: threads that scan vectors, by default one per CPU of the process.

        Raises:
            StoreLocked: another process has it open; names its pid.
            StoreTooNew: a newer version wrote it.
            StoreCorrupt: the database is damaged or not ours.
            StoreError: it cannot be read or written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FolderLock(folder)
        except OSError as error:
            raise StoreError(f"cannot use the data folder {folder}: {error}") from error
        path = folder / DATABASE_FILE
        try:
            writer = open_writer(path)
            try:
                store = cls(writer, path, lock, n_threads)
            except BaseException:
                writer.close()
                raise
        except BaseException as error:
            lock.release()
            if isinstance(error, sqlite3.Error | UnicodeDecodeError):
                raise from_sqlite(error) from error
            raise
        try:
            store._forget_hidden()
            store._load()
            store.indexes.start()
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Finish the writes that wait and release the folder. Closing twice is no error."""
        with self._changing:
            if self._closed:
                return
            self._closed = True
            collections = list(self._collections.values())
        self.indexes.close()
        self._writer.close()
        for collection in collections:
            collection._family.leave(StoreClosed("the store was closed"))
        self.sampler.close()
        self._scanner.close()
        self._readers.close()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def create_collection(
        self,
        name: str,
        *,
        space_id: str,
        dim: int,
        metadata: Mapping[str, Any] | None = None,
        index: IndexSettings = CHOSEN,
        keeps_originals: bool = False,
        durability: Durability = "full",
    ) -> Collection:
        """Make an empty collection, bound to one embedding space until it is upgraded to another.

        Args:
            name: 1 to 255 of A-Z a-z 0-9 . _ -, not starting with a dot.
            space_id: identity of the embedding space, 1 to 256 bytes.
            dim: length of its vectors, 1 to 16384.
            metadata: a JSON object that is kept with it, at most 1 MiB.
            index: how it is indexed; by default the store chooses by size.
            keeps_originals: keep the images and texts that its points are embedded from.
            durability: of its writes, where a call does not say.

        Raises:
            InvalidCollection: an argument is refused.
            CollectionExists: the name is taken.
            WrongSpace: the space is known with another dim.
        """
        self._check_open()
        text = check_collection(name, space_id, dim, metadata)
        index.check()
        check_durability(durability)
        now = time.time_ns() // 1_000_000

        def write(transaction: Transaction) -> Place:
            check_free(transaction.connection, name)
            place = insert_collection(transaction.connection, name, space_id, dim, text, now)
            store_settings(transaction.connection, place.collection_id, index)
            if durability != "full":
                self._shared.durabilities.keep(transaction, place, durability)
            if keeps_originals:
                keep_setting(transaction.connection, place.collection_id, KEEPS_ORIGINALS, True)
            return place

        def publish(place: Place) -> None:
            self._shared.durabilities.show(place, durability)
            info = CollectionInfo(name, space_id, dim, 0, now, json.loads(text), 0, index_settings=index)
            info = replace(info, keeps_originals=keeps_originals)
            self._adopt(name, Collection(info, place, Head(dim), self._shared))

        place = self._writer.run(write, publish)
        made = self.collection(name)
        if made._place != place:
            raise CollectionNotFound(f"collection {name!r} was deleted by another caller while it was made")
        return made

    def collection(self, name: str) -> Collection:
        """The collection of this name, or of this alias.

        Raises:
            CollectionNotFound: there is none.
        """
        self._check_open()
        with self._changing:
            found = self._collections.get(self._aliases.get(name, name))
        if found is None:
            raise CollectionNotFound(f"there is no collection {shown(name)}")
        return found

    def collections(self) -> list[CollectionInfo]:
        """All collections, by name."""
        self._check_open()
        infos = []
        for handle in self._handles():
            try:
                infos.append(handle.info)
            except CollectionNotFound:
                continue  # deleted since
        return infos

    def delete_collection(self, name: str) -> None:
        """Delete a collection at once, with its aliases; its room on the disk is reclaimed in the background.

        Raises:
            CollectionNotFound: there is none of this name; an alias is none.
        """
        handle = self.collection(name)
        if handle.info.name != name:
            raise CollectionNotFound(
                f"{name!r} is an alias of collection {handle.info.name!r}; name that one"
            )

        def write(transaction: Transaction) -> None:
            handle._check_here()
            forget_collection(transaction.connection, handle._place.collection_id)

        def publish(_: None) -> None:
            with self._changing:
                del self._collections[name]
                self._aliases = {alias: one for alias, one in self._aliases.items() if one != name}
            handle._family.leave(CollectionNotFound(f"collection {name!r} was deleted"))
            self.indexes.forget(handle)

        self._writer.run(write, publish)
        self._writer.clean_soon()

    def damaged_pages(self) -> list[str]:
        """What SQLite finds wrong with the database file, at most 100 lines; none where it is sound.

        Reads all of it.
        """
        self._check_open()
        with self._readers.snapshot() as connection:
            found = [row[0] for row in connection.execute("PRAGMA integrity_check(100)")]
        return [] if found == ["ok"] else found

    def aliases(self) -> dict[str, str]:
        """All aliases, ordered, each with the name of its collection."""
        self._check_open()
        with self._changing:
            return dict(sorted(self._aliases.items()))

    def update_aliases(self, changes: Sequence[AliasChange]) -> None:
        """Make, move and remove aliases, in order: all of it in one step, or none.

        A reader finds each alias where it was before the call or where it is after; never somewhere between.

        Raises:
            InvalidCollection: a malformed alias.
            AliasNotFound: one to delete is not there.
            CollectionNotFound: one to set has no collection.
            CollectionExists: one to set is the name of a collection.
        """
        self._check_open()

        def write(transaction: Transaction) -> dict[str, str]:
            change_aliases(transaction.connection, changes)
            return load_aliases(transaction.connection)

        self._writer.run(write, self._publish_aliases)

    def _handles(self) -> list[Collection]:
        with self._changing:
            return [self._collections[name] for name in sorted(self._collections)]

    def _adopt(self, name: str, collection: Collection) -> None:
        with self._changing:
            self._collections[name] = collection

    def _publish_aliases(self, found: dict[str, str]) -> None:
        with self._changing:
            self._aliases = found
            for name, handle in self._collections.items():
                handle.aliases = aliases_of(found, name)

    def _forget_hidden(self) -> None:
        """Remove what a restoration left behind when it was killed."""
        with self._readers.snapshot() as connection:
            hidden = hidden_collections(connection)
        for one in hidden:

            def write(transaction: Transaction, collection_id: int = one) -> None:
                forget_collection(transaction.connection, collection_id)

            self._writer.run(write, lambda _: None)
            self._writer.clean_soon()

    def _load(self) -> None:
        with self._readers.snapshot() as connection:
            try:
                for loaded in load_collections(connection, self._shared):
                    self._collections[loaded.collection.info.name] = loaded.collection
                    if loaded.index_file is not None:
                        self.indexes.open(loaded.collection, loaded.index_file)
                self._publish_aliases(load_aliases(connection))
            except sqlite3.Error as error:
                raise from_sqlite(error) from error

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosed("the store was closed")
