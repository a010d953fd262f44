"""Reading the collections of a database when a store is opened."""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from nearlight.store import rows
from nearlight.store.collection import Collection
from nearlight.store.creating import KEEPS_ORIGINALS
from nearlight.store.errors import StoreCorrupt
from nearlight.store.filters.indexes import payload_indexes
from nearlight.store.generations.publishing import IndexFile, newest_file
from nearlight.store.generations.settings import IndexSettings
from nearlight.store.points import CollectionInfo
from nearlight.store.rows import Place
from nearlight.store.schema import open_database
from nearlight.store.searching import Shared
from nearlight.store.upgrade_cleaning import clean_step
from nearlight.store.upgrade_job import load_upgrade
from nearlight.store.view import Head
from nearlight.store.writer import Writer

_COLLECTIONS = """
SELECT collection_id, space_no, dim, name, space_id, collections.created_unix_ms, metadata, last_seq, config
FROM collections JOIN spaces USING (space_no) WHERE name IS NOT NULL ORDER BY name
"""


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A collection with its vectors, and the file of its index, None where it has none."""

    collection: Collection
    index_file: IndexFile | None


def open_writer(path: Path) -> Writer:
    """The writer of a database; its thread uses the connection from now on, and `close` ends both."""
    connection = open_database(path)
    try:
        return Writer(connection, clean_step)
    except BaseException:
        connection.close()
        raise


def load_collections(connection: sqlite3.Connection, shared: Shared) -> Iterator[Loaded]:
    """Every collection, by name.

    Raises:
        StoreCorrupt: a vector is not what was written, or a row is damaged.
        sqlite3.Error: the database cannot be read.
    """
    for collection_id, space_no, dim, *columns in connection.execute(_COLLECTIONS).fetchall():
        name, space_id, created_unix_ms, metadata, last_seq, config = columns
        place = Place(collection_id, space_no, dim)
        file = newest_file(connection, place)
        try:
            info = replace(
                CollectionInfo(name, space_id, dim, 0, created_unix_ms, json.loads(metadata), last_seq),
                payload_indexes=payload_indexes(connection, collection_id),
                index_settings=IndexSettings.from_json(config),
                keeps_originals=bool(json.loads(config).get(KEEPS_ORIGINALS)),
            )
        except ValueError as error:  # of JSON
            raise StoreCorrupt(f"the row of collection {name!r} is damaged: {error}") from error
        collection = Collection(info, place, _loaded_head(connection, place, file), shared)
        collection._family.upgrade = load_upgrade(connection, collection_id)
        yield Loaded(collection, file)


def _loaded_head(connection: sqlite3.Connection, place: Place, file: IndexFile | None) -> Head:
    head = Head(place.dim)
    if file is not None:
        head.cut(file.up_to_seq)
    for seqs, vectors in rows.load(connection, place):
        head.publish(seqs, vectors)
    return head
