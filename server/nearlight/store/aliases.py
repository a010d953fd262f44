"""Other names of collections, moved several at once."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from nearlight.store.errors import AliasNotFound, CollectionExists, CollectionNotFound, shown
from nearlight.store.names import check_name


@dataclass(frozen=True, slots=True)
class SetAlias:
    """Makes an alias of a collection, or moves it there."""

    alias: str
    collection: str


@dataclass(frozen=True, slots=True)
class DeleteAlias:
    """Removes an alias; its collection stays."""

    alias: str


AliasChange: TypeAlias = SetAlias | DeleteAlias


def load_aliases(connection: sqlite3.Connection) -> dict[str, str]:
    """Alias → name of its collection."""
    statement = (
        "SELECT alias, name FROM aliases JOIN collections USING (collection_id) WHERE name IS NOT NULL"
    )
    return dict(connection.execute(statement).fetchall())


def change_aliases(connection: sqlite3.Connection, changes: Sequence[AliasChange]) -> None:
    """Apply changes in their order.

    Raises:
        InvalidCollection: a malformed alias.
        AliasNotFound: one to delete is not there.
        CollectionNotFound: one to set has no collection.
        CollectionExists: one to set is the name of a collection.
    """
    for change in changes:
        if isinstance(change, DeleteAlias):
            if connection.execute("DELETE FROM aliases WHERE alias = ?", (change.alias,)).rowcount == 0:
                raise AliasNotFound(f"there is no alias {shown(change.alias)}")
            continue
        check_name(change.alias, "alias")
        if _id_of(connection, change.alias) is not None:
            raise CollectionExists(f"{change.alias!r} is the name of a collection; it cannot be an alias")
        collection_id = _id_of(connection, change.collection)
        if collection_id is None:
            raise CollectionNotFound(f"there is no collection {shown(change.collection)}")
        connection.execute(
            "INSERT INTO aliases (alias, collection_id) VALUES (?, ?) "
            "ON CONFLICT (alias) DO UPDATE SET collection_id = excluded.collection_id",
            (change.alias, collection_id),
        )


def aliases_of(aliases: Mapping[str, str], name: str) -> tuple[str, ...]:
    """The aliases of a collection, ordered."""
    return tuple(sorted(alias for alias, collection in aliases.items() if collection == name))


def _id_of(connection: sqlite3.Connection, name: str) -> int | None:
    row = connection.execute("SELECT collection_id FROM collections WHERE name = ?", (name,)).fetchone()
    return None if row is None else int(row[0])
