"""Making a collection: what it may be, and the statements."""

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from nearlight.store import spaces
from nearlight.store.errors import CollectionExists, InvalidCollection, InvalidPoint, shown
from nearlight.store.names import check_name
from nearlight.store.rows import Place
from nearlight.store.validation import payload_text

MAX_DIM = 16_384
MAX_SPACE_ID_BYTES = 256


def insert_collection(
    connection: sqlite3.Connection, name: str, space_id: str, dim: int, metadata: str, now_unix_ms: int
) -> Place:
    """Make an empty collection, and its space where that is new.

    Raises:
        WrongSpace: the space is known with another dim.
    """
    space_no = spaces.space_no(connection, space_id, dim, now_unix_ms)
    statement = "INSERT INTO collections (name, space_no, metadata, created_unix_ms) VALUES (?, ?, ?, ?)"
    collection_id = connection.execute(statement, (name, space_no, metadata, now_unix_ms)).lastrowid
    if collection_id is None:
        raise AssertionError("SQLite gave no row id")
    return Place(collection_id, space_no, dim)


def keep_setting(connection: sqlite3.Connection, collection_id: int, key: str, value: Any) -> None:
    """Write one key of a collection's config; others stay."""
    statement = "UPDATE collections SET config = json_set(config, '$.' || ?, json(?)) WHERE collection_id = ?"
    connection.execute(statement, (key, json.dumps(value), collection_id))


def check_free(connection: sqlite3.Connection, name: str) -> None:
    """Check that neither a collection nor an alias has a name.

    Raises:
        CollectionExists: one has.
    """
    if connection.execute("SELECT 1 FROM collections WHERE name = ?", (name,)).fetchone():
        raise CollectionExists(f"collection {name!r} exists already")
    if connection.execute("SELECT 1 FROM aliases WHERE alias = ?", (name,)).fetchone():
        raise CollectionExists(f"{name!r} is an alias already")


def forget_collection(connection: sqlite3.Connection, collection_id: int) -> None:
    """Delete a collection and its aliases; its rows are reclaimed later."""
    connection.execute("UPDATE collections SET name = NULL WHERE collection_id = ?", (collection_id,))
    connection.execute("DELETE FROM aliases WHERE collection_id = ?", (collection_id,))


def check_collection(name: str, space_id: str, dim: int, metadata: Mapping[str, Any] | None) -> str:
    """Check the arguments of `create_collection`; returns the metadata as JSON text."""
    check_name(name, "name")
    if isinstance(dim, bool) or not isinstance(dim, int) or not 1 <= dim <= MAX_DIM:
        raise InvalidCollection("dim", shown(dim), f"it must be an integer in 1..{MAX_DIM}")
    try:
        n_bytes = len(space_id.encode())
    except UnicodeEncodeError:
        raise InvalidCollection("space_id", shown(space_id), "it must be valid Unicode") from None
    if not 1 <= n_bytes <= MAX_SPACE_ID_BYTES:
        raise InvalidCollection(
            "space_id", f"{n_bytes} bytes long", f"the limit is 1 to {MAX_SPACE_ID_BYTES} bytes"
        )
    return metadata_text(metadata or {})


def metadata_text(metadata: Mapping[str, Any]) -> str:
    """Metadata as JSON text; raises InvalidCollection where it is refused."""
    try:
        return payload_text(metadata)
    except InvalidPoint as error:
        raise InvalidCollection("metadata", error.value, error.limit) from None
