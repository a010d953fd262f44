"""Files into a collection.

What was acknowledged is noted beside the user's other state, so that an import that was interrupted, by
Ctrl-C or by kill -9, goes on where it was; without the note it writes the same points again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nearlight.client.errors import NotFound, TransferFailed
from nearlight.client.point_blocks import PointBlock
from nearlight.client.sync_client import Client
from nearlight.client.terms import UpsertTerms
from nearlight.client.transfer.files import VectorFiles
from nearlight.client.values import CollectionInfo, ItemError

NOTE_SECONDS = 1.0
BATCH_POINTS = 1024


@dataclass(slots=True)
class Import:
    """One import.

    Attributes:
        client: of the server.
        collection: made where it is missing.
        source: of the rows.
        space_id: of the vectors, where the files do not say.
        on_progress: called with the import itself when a number grows.
        rows: dealt with, in order.
        resumed: of them, by a run before this.
        failed: rows that were refused; index counts from the first row.
    """

    client: Client
    collection: str
    source: VectorFiles
    space_id: str = ""
    on_progress: Callable[[Import], None] = lambda _: None
    rows: int = 0
    resumed: int = 0
    failed: list[ItemError] = field(default_factory=list)

    def run(self) -> None:
        """Writes the rows; on return they are durable as the collection is, but for those in ``failed``.

        Raises:
            TransferFailed: a file is damaged, or of another space.
            NearlightError: the server.
        """
        info = self._target()
        note = Note.of(self.client, info, self.source)
        self.rows = self.resumed = note.read(info)
        self.on_progress(self)
        terms = UpsertTerms(space_id=info.space_id)
        acks = self.client.upsert_blocks(
            self.collection, self._blocks(), block_points=BATCH_POINTS, terms=terms
        )
        noted = time.monotonic()
        for ack in acks:
            self.failed += ack.errors
            self.rows = self.resumed + ack.first_index + len(ack.ids)
            if time.monotonic() - noted > NOTE_SECONDS:
                note.write(self.rows, ack.seq)
                noted = time.monotonic()
            self.on_progress(self)
        note.remove()

    def _target(self) -> CollectionInfo:
        """The collection to write to, of the space of the files."""
        source, space_id = self.source, self.space_id
        if source.origin is not None and space_id and space_id != source.origin.space_id:
            raise TransferFailed(f"{source.path} is of space {source.origin.space_id!r}, not of {space_id!r}")
        space_id = space_id or (source.origin.space_id if source.origin else "")
        try:
            info = self.client.collection(self.collection)
        except NotFound:
            if not space_id:
                raise TransferFailed(
                    f"{source.path} does not say of which space its vectors are; name it with --space-id"
                ) from None
            metadata = source.origin.metadata if source.origin else None
            return self.client.create_collection(
                self.collection, space=(space_id, source.dim), metadata=metadata
            )
        wants = f"collection {self.collection!r} is of space {info.space_id!r}, dim {info.dim}"
        if not space_id:
            raise TransferFailed(
                f"{source.path} does not say of which space its vectors are, and {wants}; "
                "where they are of it, say so with --space-id"
            )
        if (space_id, source.dim) != (info.space_id, info.dim):
            raise TransferFailed(f"{source.path} is of space {space_id!r}, dim {source.dim}; {wants}")
        return info

    def _blocks(self) -> Iterator[PointBlock]:
        for rows in self.source.blocks(self.resumed):
            yield PointBlock(rows.ids, rows.vectors, rows.payloads)


@dataclass(frozen=True, slots=True)
class Note:
    """How far an import of these very files into this very collection has come."""

    file: Path

    @classmethod
    def of(cls, client: Client, info: CollectionInfo, source: VectorFiles) -> Note:
        """Returns the note of an import."""
        what = (client.connection.address, info.name, info.created_unix_ms, source.fingerprint())
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        name = hashlib.sha256(repr(what).encode()).hexdigest()
        return cls(Path(state) / "nearlight" / "imports" / f"{name}.json")

    def read(self, info: CollectionInfo) -> int:
        """Returns how many rows were acknowledged; 0 where the collection does not hold the last of them."""
        try:
            document = json.loads(self.file.read_bytes())
            return int(document["rows"]) if int(document["seq"]) <= info.last_seq else 0
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def write(self, rows: int, seq: int) -> None:
        """Replaces the note; where that cannot be, the import only cannot be resumed."""
        unfinished = self.file.with_suffix(".tmp")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_text(json.dumps({"rows": rows, "seq": seq}), "utf-8")
            unfinished.replace(self.file)
        except OSError:
            return

    def remove(self) -> None:
        """The import is done."""
        self.file.unlink(missing_ok=True)
