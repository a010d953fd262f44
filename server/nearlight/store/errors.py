"""Everything the store can refuse or fail with.

```
StoreError
├── InvalidInput            names the field, the value and the limit
│   ├── InvalidPoint        a point of an upsert, or a point id
│   ├── InvalidQuery        a search or scroll argument
│   ├── InvalidCollection   a collection's name, dim, space or metadata
│   └── InvalidLabelSet     a label set's name, labels or numbers
├── CollectionNotFound
├── CollectionExists
├── AliasNotFound
├── PayloadIndexNotFound
├── PayloadIndexExists      the key has an index of another kind
├── SnapshotNotFound
├── SnapshotDamaged         a snapshot's file is not what was written; no collection was made of it
├── LabelSetNotFound
├── LabelSetExists
├── UpgradeNotFound         the collection was never upgraded
├── UpgradeRefused          the state of an upgrade does not allow the step
├── SpaceChanged            the collection changed its model since the handle was taken: take it again
├── WrongSpace              vectors of two embedding spaces would meet
├── StoreLocked             another process (or another Store) has the folder
├── StoreCorrupt            the database is damaged or is not ours
│   └── StoreTooNew         a newer Nearlight wrote it
├── IndexFileBad            an index file is not what was written; never leaves the store: exact search serves
├── IndexBuildFailed        an index was not built; never leaves the store either
├── StoreFull               no room on the disk; nothing of the call was stored
├── EngineFailed            the engine behind the store answered with an error that is nobody's fault here
├── EngineUnavailable       the engine behind the store does not answer
├── NotInMemory             a search that was to look into memory only needs the database: ask without that
├── NotOnThisEngine         the embedded store can do it, the engine in use cannot
└── StoreClosed
```
"""

import sqlite3

_CORRUPT_CODES = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class StoreError(Exception):
    """Root of the tree; raised itself for input/output failures of the database."""


class InvalidInput(StoreError):
    """An argument was refused; nothing was stored.

    Attributes:
        field: what was wrong, as the caller would write it: `points[3].vector`.
        value: what was found there, as short printable ASCII.
        limit: what is allowed.
    """

    def __init__(self, field: str, value: str, limit: str) -> None:
        super().__init__(f"{field} is {value}; {limit}")
        self.field = field
        self.value = value
        self.limit = limit


class InvalidPoint(InvalidInput):
    """A point or a point id was refused; `index` is its place in the call, None when it was checked alone."""

    def __init__(self, field: str, value: str, limit: str, *, index: int | None = None) -> None:
        place = "point" if index is None else f"points[{index}]"
        super().__init__(f"{place}.{field}", value, limit)
        self.index = index


class InvalidQuery(InvalidInput):
    """A search or scroll argument was refused."""


class InvalidCollection(InvalidInput):
    """A collection's name, dim, space_id or metadata was refused."""


class InvalidLabelSet(InvalidInput):
    """A label set's name, labels or numbers were refused."""


class CollectionNotFound(StoreError):
    """No collection of that name, or it was deleted since the handle was taken."""


class CollectionExists(StoreError):
    """The name is taken."""


class AliasNotFound(StoreError):
    """No alias of that name."""


class PayloadIndexNotFound(StoreError):
    """The payload key has no index."""


class PayloadIndexExists(StoreError):
    """The payload key has an index of another kind."""


class SnapshotNotFound(StoreError):
    """No snapshot of that name."""


class SnapshotDamaged(StoreError):
    """A snapshot's file is not what was written; no collection was made of it."""


class LabelSetNotFound(StoreError):
    """No label set of that name."""


class LabelSetExists(StoreError):
    """The name of the label set is taken."""


class UpgradeNotFound(StoreError):
    """The collection has no upgrade."""


class UpgradeRefused(StoreError):
    """The state of an upgrade does not allow the step; nothing was changed."""


class SpaceChanged(StoreError):
    """The collection changed its model since the handle was taken; nothing was done. Take it again."""


class WrongSpace(StoreError):
    """Vectors of another embedding space than the collection's."""


class StoreLocked(StoreError):
    """The folder is open elsewhere; `pid` is the process that holds it, None when unknown."""

    def __init__(self, message: str, pid: int | None) -> None:
        super().__init__(message)
        self.pid = pid


class StoreCorrupt(StoreError):
    """The database is damaged, or the file is not a Nearlight store."""


class StoreTooNew(StoreCorrupt):
    """The database was written by a newer version."""


class IndexFileBad(StoreError):
    """An index file is missing, cut short, changed, another's or newer than this Nearlight."""


class IndexBuildFailed(StoreError):
    """The process that builds an index ended without one."""


class StoreFull(StoreError):
    """The disk (or the database's page limit) is full; nothing of the call was stored."""


class EngineFailed(StoreError):
    """The engine behind the store answered with an error of its own."""


class EngineUnavailable(StoreError):
    """The engine behind the store cannot be reached, or did not answer in time; writes may have happened."""


class NotInMemory(StoreError):
    """A search that was to look into memory only needs the database, or an engine."""


class NotOnThisEngine(StoreError):
    """The embedded store can do it; the engine in use cannot, or not at this size."""


class StoreClosed(StoreError):
    """The store was closed."""


def shown(value: object, limit: int = 80) -> str:
    """A value as short printable ASCII, safe in any message even with lone surrogates in it."""
    text = ascii(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def from_sqlite(error: sqlite3.Error | UnicodeDecodeError) -> StoreError:
    """The error of this tree that says what SQLite said; names and texts that are no UTF-8 mean damage."""
    if isinstance(error, UnicodeDecodeError):
        return StoreCorrupt(f"the store's database holds text that is not UTF-8: {error}")
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # extended codes keep the primary one in the low byte
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(f"no room left for the store ({error}); nothing of this call was stored")
    if code in _CORRUPT_CODES:
        return StoreCorrupt(f"the store's database is damaged or not a database: {error}")
    if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error):
        return StoreClosed("the store was closed")
    return StoreError(f"the store's database failed: {error}")
