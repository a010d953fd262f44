"""A collection made of a snapshot: under a hidden name until all of it is there."""

import secrets
import sqlite3
import time
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from nearlight.store.checksums import content_checksum, row_checksum
from nearlight.store.creating import (
    KEEPS_ORIGINALS,
    check_free,
    forget_collection,
    insert_collection,
    keep_setting,
)
from nearlight.store.filters.indexes import create_index
from nearlight.store.originals import insert_blobs
from nearlight.store.points import PayloadIndex, PayloadKind
from nearlight.store.rows import Place, keep_last_seq
from nearlight.store.snapshots import SnapshotInfo, SnapshotRow, read_rows
from nearlight.store.validation import payload_text, vector_checksums
from nearlight.store.view import Head
from nearlight.store.writer import Transaction, Writer

_INSERT_POINT = """
INSERT INTO points
(seq, collection_id, id, payload, checksum, content_sha256, perceptual_hash, created_unix_ms)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_INSERT_VECTOR = "INSERT INTO vectors (seq, space_no, vector, checksum) VALUES (?, ?, ?, ?)"

HIDDEN = "."  # no user's collection begins with it


class Restoration:
    """Fills a hidden collection; ends with `reveal` or `abandon`. A crash between leaves it to the next open.

    Args:
        writer: of the store.
        folder: of the snapshots.
        info: of the snapshot.
    """

    def __init__(self, writer: Writer, folder: Path, info: SnapshotInfo) -> None:
        self._writer = writer
        self._folder = folder
        self._info = info
        self.head = Head(info.dim)
        self.last_seq = 0
        self.payload_indexes: tuple[PayloadIndex, ...] = ()
        self.created_unix_ms = time.time_ns() // 1_000_000
        self.place = writer.run(self._insert, lambda _: None)

    def fill(self) -> None:
        """Copy the points and make the payload indexes.

        Raises:
            SnapshotDamaged: a row is not what a store writes.
            StoreError: the database failed.
        """
        for block in read_rows(self._folder, self._info):
            self._write(block)
        for path, kind in self._info.payload_indexes:
            self._index(tuple(path), kind)  # type: ignore[arg-type]

    def reveal(self, transaction: Transaction, name: str) -> None:
        """Give the collection its name.

        Raises:
            CollectionExists: it is taken.
        """
        check_free(transaction.connection, name)
        statement = "UPDATE collections SET name = ? WHERE collection_id = ?"
        transaction.connection.execute(statement, (name, self.place.collection_id))

    def abandon(self) -> None:
        """Leave what was written to the background cleaning."""
        self._writer.run(
            lambda one: forget_collection(one.connection, self.place.collection_id), lambda _: None
        )
        self._writer.clean_soon()

    def _insert(self, transaction: Transaction) -> Place:
        info = self._info
        place = insert_collection(
            transaction.connection,
            f"{HIDDEN}restoring-{secrets.token_hex(8)}",
            info.space_id,
            info.dim,
            payload_text(info.metadata),
            self.created_unix_ms,
        )
        if info.keeps_originals:
            keep_setting(transaction.connection, place.collection_id, KEEPS_ORIGINALS, True)
        return place

    def _write(self, block: Sequence[SnapshotRow]) -> None:
        vectors = np.stack([row.vector for row in block])  # (N, D)

        def write(transaction: Transaction) -> range:
            self.head.reserve(len(block))
            seqs = transaction.new_seqs(len(block))
            run_many = transaction.connection.executemany
            rows = zip(seqs, block, strict=True)
            run_many(_INSERT_POINT, (_point(seq, self.place.collection_id, row) for seq, row in rows))
            blobs = (row.tobytes() for row in vectors.astype("<f4", copy=False))
            checksums = vector_checksums(vectors).tolist()
            run_many(_INSERT_VECTOR, zip(seqs, repeat(self.place.space_no), blobs, checksums, strict=False))
            images = [(seq, row.image) for seq, row in zip(seqs, block, strict=True) if row.image is not None]
            insert_blobs(transaction.connection, images)
            keep_last_seq(transaction.connection, self.place, seqs[-1])
            return seqs

        def publish(seqs: range) -> None:
            self.head.publish(np.array(seqs, np.int64), vectors)
            self.last_seq = seqs[-1]

        self._writer.run(write, publish, len(block))

    def _index(self, path: tuple[str, ...], kind: PayloadKind) -> None:
        made = self._writer.run(
            lambda one: create_index(one.connection, self.place.collection_id, path, kind), lambda _: None
        )
        self.payload_indexes = (*self.payload_indexes, made)


def _point(seq: int, collection_id: int, row: SnapshotRow) -> tuple[Any, ...]:
    """The parameters of `_INSERT_POINT`."""
    key, payload, _, content_sha256, perceptual_hash, created_unix_ms = row.columns
    checksum = row_checksum(content_checksum(key, payload, perceptual_hash), seq, collection_id)
    return seq, collection_id, key, payload, checksum, content_sha256, perceptual_hash, created_unix_ms


def hidden_collections(connection: sqlite3.Connection) -> list[int]:
    """Ids of the collections that a crash kept from being revealed."""
    found = connection.execute(
        "SELECT collection_id FROM collections WHERE substr(name, 1, 1) = ?", (HIDDEN,)
    )
    return [row[0] for row in found]
