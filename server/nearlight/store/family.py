"""The handles of one collection: one for its space, and while its model changes one for the other space.

Each handle has the vectors of one space for good. To change the model is to put another handle in the place
of the current one; a search that began with the old handle ends with it, in the old space. So that it can,
every write reaches every handle that somebody still holds. Only the writer's thread changes a family.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakSet

import numpy as np

from nearlight.store.errors import CollectionNotFound, StoreClosed
from nearlight.store.generations.settings import IndexSettings
from nearlight.store.points import F32, I64, PayloadIndex
from nearlight.store.rows import Place, Written
from nearlight.store.upgrade_job import Upgrade
from nearlight.store.upgrade_rows import present_vectors

if TYPE_CHECKING:
    from nearlight.store.reading import CollectionReader

Elsewhere: TypeAlias = Mapping[int, tuple[I64, F32]]
"""By number of the space: the seqs (N,) of a write that have a vector there, and the vectors (N, D)."""


class Family:
    """The handles of a collection.

    Attributes:
        handles: that somebody holds.
        upgrade: the last change of model, under way or over.
        late_writes: vectors of the other space that were written after their points; who has loaded that
            space before lacks them.
    """

    def __init__(self) -> None:
        self.handles: WeakSet[CollectionReader] = WeakSet()
        self.upgrade: Upgrade | None = None
        self.late_writes = 0

    def other_place(self, place: Place) -> Place | None:
        """Where vectors of the other space go, while the model changes."""
        upgrade = self.upgrade
        if upgrade is None or not upgrade.is_open:
            return None
        other = upgrade.old if place.space_no == upgrade.new.space_no else upgrade.new
        return Place(place.collection_id, other.space_no, other.dim)

    def other_space_id(self, space_id: str) -> str:
        """The space that new points are embedded into as well, "" where there is none."""
        upgrade = self.upgrade
        if upgrade is None or not upgrade.is_open:
            return ""
        return upgrade.old.space_id if space_id == upgrade.new.space_id else upgrade.new.space_id

    def reserve(self, n_rows: int) -> None:
        """Get the memory for `n_rows` more now, so that publishing them cannot fail."""
        for handle in list(self.handles):
            if handle._backlog is None:
                handle._head.reserve(n_rows)

    def elsewhere(self, connection: sqlite3.Connection, place: Place, seqs: range) -> Elsewhere:
        """What a write left in the spaces of the other handles; to be asked before it is committed."""
        places = {handle._place.space_no: handle._place for handle in list(self.handles)}
        return {
            space_no: present_vectors(connection, other, list(seqs))
            for space_no, other in places.items()
            if space_no != place.space_no
        }

    def publish(self, place: Place, written: Written, vectors: F32, elsewhere: Elsewhere) -> None:
        """Show a write to everybody.

        Args:
            place: of the handle that wrote.
            written: the rows.
            vectors: (N, D) of `written.seqs` in the place's space.
            elsewhere: of other spaces.
        """
        own = (np.array(written.seqs, np.int64), vectors)
        for handle in list(self.handles):
            space_no = handle._place.space_no
            seqs, found = own if space_no == place.space_no else elsewhere.get(space_no, (None, None))
            if seqs is None or found is None:
                seqs, found = np.empty(0, np.int64), np.empty((0, handle._place.dim), np.float32)
            handle._take(seqs, found, written.dead, written.last_seq)

    def show_payload_indexes(self, indexes: tuple[PayloadIndex, ...]) -> None:
        """Tell every handle of the payload indexes."""
        for handle in list(self.handles):
            handle._payload_indexes = indexes

    def show_metadata(self, metadata: dict[str, Any]) -> None:
        """Tell every handle of the metadata."""
        for handle in list(self.handles):
            handle._first_info = replace(handle._first_info, metadata=metadata)

    def show_index_settings(self, settings: IndexSettings) -> None:
        """Tell every handle how it is to be indexed."""
        for handle in list(self.handles):
            handle._first_info = replace(handle._first_info, index_settings=settings)
            handle.work.settings, handle.work.retry_at = settings, 0.0

    def hide(self, seqs: Iterable[int]) -> None:
        """Take points out of every search."""
        dead = list(seqs)
        for handle in list(self.handles) if dead else ():
            handle._take(
                np.empty(0, np.int64),
                np.empty((0, handle._place.dim), np.float32),
                dead,
                handle._last_seq,
            )

    def leave(self, why: CollectionNotFound | StoreClosed) -> None:
        """Make every later call of every handle raise `why`."""
        for handle in list(self.handles):
            handle.leave(why)
