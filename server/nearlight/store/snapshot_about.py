"""What a snapshot carries beside the points: how the collection was calibrated, is indexed, and writes.

It is a table of its own in the snapshot's file, under its checksum; a snapshot without it is an older one.
"""

import json
import sqlite3
from contextlib import suppress
from dataclasses import dataclass, field

from nearlight.store.calibrations import NONE, Calibrations, Nulls, kept_in, nulls_of
from nearlight.store.durability import KEY as DURABILITY
from nearlight.store.durability import Durability
from nearlight.store.errors import InvalidCollection, SnapshotDamaged
from nearlight.store.generations.settings import CHOSEN, IndexSettings, store_settings
from nearlight.store.rows import Place
from nearlight.store.searching import Shared
from nearlight.store.writer import Transaction

TABLE = "CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;"
_SETTING = f"""
SELECT coalesce(json_extract(config, '$.{DURABILITY}'), 'full'), config
FROM collections WHERE collection_id = ?
"""  # noqa: S608
_INDEX = "index"
_CALIBRATION = "SELECT calibration FROM spaces WHERE space_no = ?"


@dataclass(frozen=True, slots=True, eq=False)
class About:
    """What is carried.

    Attributes:
        durability: how writes are acknowledged.
        calibration: the text that `nulls` are of.
        nulls: by modality.
        index: how the collection is to be indexed.
    """

    durability: Durability = "full"
    calibration: str = ""
    nulls: Nulls = field(default_factory=lambda: NONE)
    index: IndexSettings = CHOSEN


def copy_about(connection: sqlite3.Connection, place: Place, target: sqlite3.Connection) -> None:
    """Copy it from a store into a snapshot's file; a calibration that cannot be read is left out."""
    durability, config = connection.execute(_SETTING, (place.collection_id,)).fetchone()
    found = {DURABILITY: durability, _INDEX: json.dumps(IndexSettings.from_json(config).to_json())}
    (text,) = connection.execute(_CALIBRATION, (place.space_no,)).fetchone()
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        found["calibration"] = json.dumps(kept_in(text)[str(place.collection_id)])
    target.executemany("INSERT INTO about (key, value) VALUES (?, ?)", found.items())


def read_about(connection: sqlite3.Connection, name: str) -> About:
    """Read it from a snapshot's file.

    Raises:
        SnapshotDamaged: it is not what a store writes.
    """
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'about'").fetchone():
        return About()
    found = dict(connection.execute("SELECT key, value FROM about"))
    try:
        text = found.get("calibration", "")
        nulls = nulls_of(json.loads(text)) if text else NONE
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SnapshotDamaged(f"snapshot {name!r}: its calibration cannot be read: {error}") from error
    try:
        index = IndexSettings.from_json(f'{{"index": {found.get(_INDEX, "{}")}}}')
        index.check()
    except (ValueError, TypeError, AttributeError, InvalidCollection) as error:
        raise SnapshotDamaged(f"snapshot {name!r}: its index settings cannot be read: {error}") from error
    return About("relaxed" if found.get(DURABILITY) == "relaxed" else "full", text, nulls, index)


class Carrier:
    """Gives a restored collection what its snapshot carried.

    Args:
        shared: of the store.
        calibrations: of the store.
    """

    def __init__(self, shared: Shared, calibrations: Calibrations) -> None:
        self._durabilities = shared.durabilities
        self._calibrations = calibrations

    def keep(self, transaction: Transaction, place: Place, about: About) -> None:
        """Write it in the transaction that reveals the collection."""
        if about.durability != "full":
            self._durabilities.keep(transaction, place, about.durability)
        if about.index != CHOSEN:
            store_settings(transaction.connection, place.collection_id, about.index)
        if about.nulls:
            self._calibrations.keep(transaction, place, json.loads(about.calibration))

    def show(self, place: Place, about: About) -> None:
        """After the commit."""
        self._durabilities.show(place, about.durability)
        if about.nulls:
            self._calibrations.show(place, about.nulls)
