"""When a write of a collection is acknowledged: after it is on the disk, or as soon as it is written.

Both survive the death of the process. What is acknowledged as relaxed is on the disk within a second, so a
power loss may take that much; the database itself stays whole, and whatever is written as full later takes
all that was written before with it.
"""

import sqlite3
from collections.abc import Callable
from typing import Literal, get_args

from nearlight.store.creating import keep_setting
from nearlight.store.errors import InvalidCollection, from_sqlite, shown
from nearlight.store.readers import Readers
from nearlight.store.rows import Place
from nearlight.store.writer import Transaction, Writer

Durability = Literal["full", "relaxed"]
KEY = "durability"  # of a collection's config

_RELAXED = f"SELECT collection_id FROM collections WHERE json_extract(config, '$.{KEY}') = 'relaxed'"  # noqa: S608


class Durabilities:
    """The durability of every collection of a store; those not named are full.

    Args:
        writer: of the store.
        readers: of the store.
    """

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        try:
            with readers.snapshot() as connection:
                self._relaxed = {row[0] for row in connection.execute(_RELAXED)}
        except sqlite3.Error as error:
            raise from_sqlite(error) from error

    def of(self, place: Place) -> Durability:
        """A collection's own."""
        return "relaxed" if place.collection_id in self._relaxed else "full"

    def is_relaxed(self, place: Place, wanted: Durability | None) -> bool:
        """Whether a write is: as the call wants, else as the collection is."""
        return (wanted or self.of(place)) == "relaxed"

    def keep(self, transaction: Transaction, place: Place, durability: Durability) -> None:
        """Write it into the collection's row; `show` comes after the commit."""
        keep_setting(transaction.connection, place.collection_id, KEY, durability)

    def show(self, place: Place, durability: Durability) -> None:
        """From now on writes follow it."""
        change: Callable[[int], None] = (
            self._relaxed.add if durability == "relaxed" else self._relaxed.discard
        )
        change(place.collection_id)


def check_durability(durability: object) -> None:
    """Raises InvalidCollection where it is none."""
    if durability not in get_args(Durability):
        raise InvalidCollection("durability", shown(durability), "it must be full or relaxed")
