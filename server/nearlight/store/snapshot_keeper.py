"""The snapshots of a store: made, listed, removed, and made into collections."""

import errno
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from nearlight.store.calibrations import Calibrations
from nearlight.store.collection import Collection
from nearlight.store.creating import check_collection, check_free
from nearlight.store.errors import SpaceChanged, StoreError, StoreFull
from nearlight.store.generations.settings import IndexSettings
from nearlight.store.points import CollectionInfo
from nearlight.store.restoring import Restoration
from nearlight.store.searching import Shared
from nearlight.store.snapshot_about import Carrier
from nearlight.store.snapshots import (
    SnapshotInfo,
    check_file,
    delete_snapshot,
    list_snapshots,
    read_carried,
    snapshot_info,
)
from nearlight.store.writer import Transaction

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_ATTEMPTS = 4


class Snapshots:
    """Snapshots of one store. All methods block and may be called from any thread.

    Args:
        folder: where they are.
        shared: of the store.
        collection: finds one by name.
        adopt: shows a new one to everybody, under a name.
        calibrations: of the store.
    """

    def __init__(
        self,
        folder: Path,
        shared: Shared,
        collection: Callable[[str], Collection],
        adopt: Callable[[str, Collection], None],
        calibrations: Calibrations,
    ) -> None:
        self._folder = folder
        self._shared = shared
        self._collection = collection
        self._adopt = adopt
        self._carrier = Carrier(shared, calibrations)
        self._writing = threading.Lock()

    def create(self, name: str) -> SnapshotInfo:
        """Write a collection, as it is now, to a file; it goes on serving and taking writes.

        Raises:
            CollectionNotFound: there is none of this name.
            StoreFull: no room on the disk.
            StoreCorrupt: a row is not what was written: `verify` names it.
            StoreError: the file cannot be written.
            SpaceChanged: the collection changes its model again and again.
        """
        try:
            with self._writing:
                for unfinished in self._folder.glob("*.tmp"):  # of a process that was killed
                    unfinished.unlink()
                for _ in range(_ATTEMPTS - 1):
                    with suppress(SpaceChanged):  # a new handle is of the new space
                        return self._collection(name).write_snapshot(self._folder)
                return self._collection(name).write_snapshot(self._folder)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise StoreFull(f"no room left for a snapshot of {name!r}: {error.strerror}") from error
            raise StoreError(f"cannot write a snapshot of {name!r}: {error}") from error

    def list(self) -> list[SnapshotInfo]:
        """All snapshots, newest first."""
        return list_snapshots(self._folder)

    def delete(self, snapshot: str) -> None:
        """Remove a snapshot.

        Raises:
            SnapshotNotFound: there is none of this name.
        """
        delete_snapshot(self._folder, snapshot)

    def restore(self, snapshot: str, name: str) -> Collection:
        """Make a collection of a snapshot, once its checksum holds. It is there whole or not at all.

        Args:
            snapshot: its name.
            name: of the new collection.

        Raises:
            SnapshotNotFound: there is none of this name.
            SnapshotDamaged: its file, or a row of it, is not what was written.
            InvalidCollection: the name is refused.
            CollectionExists: the name is taken.
            WrongSpace: its space is known with another dim.
        """
        info = snapshot_info(self._folder, snapshot)
        check_collection(name, info.space_id, info.dim, info.metadata)
        writer = self._shared.writer
        writer.run(lambda one: check_free(one.connection, name), lambda _: None)  # before the long part
        check_file(self._folder, info)
        about = read_carried(self._folder, info)
        restoration = Restoration(writer, self._folder, info)
        try:
            restoration.fill()
            made = self._handle(restoration, info, name, about.index)

            def write(transaction: Transaction) -> None:
                restoration.reveal(transaction, name)
                self._carrier.keep(transaction, restoration.place, about)

            def publish(_: None) -> None:
                self._carrier.show(restoration.place, about)
                self._adopt(name, made)

            writer.run(write, publish)
        except BaseException:
            restoration.abandon()
            raise
        return made

    def _handle(
        self, restoration: Restoration, info: SnapshotInfo, name: str, index: IndexSettings
    ) -> Collection:
        known = CollectionInfo(
            name,
            info.space_id,
            info.dim,
            0,
            restoration.created_unix_ms,
            info.metadata,
            restoration.last_seq,
            restoration.payload_indexes,
            index_settings=index,
            keeps_originals=info.keeps_originals,
        )
        return Collection(known, restoration.place, restoration.head, self._shared)
