"""The tables, and opening the database that holds them.

Some tables are here before the code that fills them (aliases, index files, payload indexes, jobs, label sets,
images), so that a store made today needs no migration for it. Vectors are little-endian float32; `vector` of
a row decodes with `numpy.frombuffer(blob, "<f4")`. Ids are kept as `nearlight.store.ids` says.
"""

import sqlite3
import time
from pathlib import Path

from nearlight.store.errors import StoreCorrupt, StoreError, StoreTooNew, from_sqlite
from nearlight.store.migrating import SCHEMA_VERSION, migrate
from nearlight.store.sealing import add_functions, check_sealed, seal_writes

DATABASE_FILE = "store.sqlite3"
APPLICATION_ID = 0x4E4C5354  # "NLST", in the header of the file
PAGE_BYTES = 16_384  # a leaf holds 7 vectors of 512 floats; with 4,096 bytes the file is 1.7 times as large
_MAGIC = b"SQLite format 3\0"
_WAL_LIMIT_BYTES = 64 * 2**20
_LENGTH_WAITS_S = (0.0, 0.01, 0.05, 0.2)

_TABLES = """
CREATE TABLE spaces (               -- embedding spaces: vectors compare only within one
  space_no INTEGER PRIMARY KEY,
  space_id TEXT NOT NULL UNIQUE,
  dim INTEGER NOT NULL CHECK (dim > 0),
  details TEXT NOT NULL DEFAULT '{}',       -- JSON: the bundle that makes its vectors
  calibration TEXT NOT NULL DEFAULT '{}',   -- JSON
  created_unix_ms INTEGER NOT NULL,
  checksum INTEGER NOT NULL DEFAULT 0       -- here and in small tables below: see `sealing`
) STRICT;
CREATE TABLE collections (
  collection_id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT UNIQUE,                         -- NULL: deleted, its rows are being reclaimed
  space_no INTEGER NOT NULL REFERENCES spaces,
  config TEXT NOT NULL DEFAULT '{}',        -- JSON: what overrides the store's choices
  metadata TEXT NOT NULL DEFAULT '{}',      -- JSON: the user's
  last_seq INTEGER NOT NULL DEFAULT 0,      -- of the last write or delete
  created_unix_ms INTEGER NOT NULL,
  checksum INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE aliases (
  alias TEXT PRIMARY KEY,
  collection_id INTEGER NOT NULL REFERENCES collections,
  checksum INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE points (               -- live points only
  seq INTEGER PRIMARY KEY AUTOINCREMENT,    -- new for every write of a point, never reused
  collection_id INTEGER NOT NULL,
  id ANY NOT NULL,
  payload TEXT NOT NULL,                    -- JSON object
  checksum INTEGER NOT NULL,                -- of seq, collection, id, payload, hash: see `checksums`
  content_sha256 BLOB,
  perceptual_hash INTEGER,
  created_unix_ms INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX points_by_id ON points (collection_id, id);
CREATE INDEX points_by_seq ON points (collection_id);  -- SQLite appends seq to it
CREATE TABLE vectors (              -- one per live point and space: two while a collection changes its model
  vector_no INTEGER PRIMARY KEY,
  seq INTEGER NOT NULL,
  space_no INTEGER NOT NULL,
  vector BLOB NOT NULL,                     -- dim float32, little-endian, unit length
  checksum INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX vectors_by_seq ON vectors (space_no, seq);
CREATE TABLE dead (                 -- tombstones: seqs that an index file may still hold
  seq INTEGER PRIMARY KEY,
  collection_id INTEGER NOT NULL,
  dead_seq INTEGER NOT NULL                 -- the seq of the write or delete that killed it
) STRICT;
CREATE INDEX dead_by_collection ON dead (collection_id);
CREATE TABLE index_files (          -- a generation covers the collection's vectors with seq <= up_to_seq
  index_file_no INTEGER PRIMARY KEY AUTOINCREMENT,
  collection_id INTEGER NOT NULL,
  space_no INTEGER NOT NULL,
  generation INTEGER NOT NULL,
  up_to_seq INTEGER NOT NULL,
  n_rows INTEGER NOT NULL,
  file_name TEXT NOT NULL,
  sha256 BLOB NOT NULL,
  factory TEXT NOT NULL,
  params TEXT NOT NULL DEFAULT '{}',        -- JSON
  faiss_version TEXT NOT NULL,
  state TEXT NOT NULL,
  created_unix_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE payload_indexes (
  collection_id INTEGER NOT NULL,
  path TEXT NOT NULL,
  kind TEXT NOT NULL,
  created_unix_ms INTEGER NOT NULL,
  checksum INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (collection_id, path)
) STRICT;
CREATE TABLE jobs (                 -- long work that survives a restart
  job_no INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL,
  collection_id INTEGER,
  details TEXT NOT NULL DEFAULT '{}',       -- JSON
  cursor TEXT,
  state TEXT NOT NULL,
  error TEXT,
  created_unix_ms INTEGER NOT NULL,
  updated_unix_ms INTEGER NOT NULL,
  checksum INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE label_sets (
  name TEXT NOT NULL,
  space_no INTEGER NOT NULL REFERENCES spaces,
  labels TEXT NOT NULL,                     -- JSON: labels and templates
  prototypes BLOB,                          -- float32, little-endian
  calibration TEXT NOT NULL DEFAULT '{}',   -- JSON
  created_unix_ms INTEGER NOT NULL,
  checksum INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (name, space_no)
) STRICT;
CREATE TABLE images (               -- originals, where a collection keeps them
  seq INTEGER PRIMARY KEY,
  image BLOB NOT NULL,
  checksum INTEGER                          -- CRC-32 plus seq; NULL: of schema version 1
) STRICT;
INSERT INTO sqlite_sequence (name, seq) VALUES ('points', 0);
"""
_HIGHEST_SEQ = """
SELECT max(coalesce((SELECT max(seq) FROM points), 0), coalesce((SELECT max(seq) FROM dead), 0),
  coalesce((SELECT max(last_seq) FROM collections), 0))
"""


def open_database(path: Path) -> sqlite3.Connection:
    """Open the write connection, making the tables in a new file.

    Raises:
        StoreTooNew: a newer version wrote the file.
        StoreCorrupt: the file is damaged, cut short, or another program's.
        StoreError: it cannot be read or written.
    """
    try:
        with path.open(
            "ab+"
        ) as file:  # made here if missing: an unwritable folder is an OSError, said in full
            file.seek(0)
            head = file.read(len(_MAGIC))
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"cannot open {path}: {error}") from error
    if head not in (b"", _MAGIC):  # SQLite would take a file of a few bytes for an empty one
        connection.close()
        raise StoreCorrupt(f"{path} is not a database")
    try:
        _check_or_create(connection, path)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        connection.close()
        translated = from_sqlite(error)
        raise type(translated)(f"cannot open {path}: {translated}") from error
    except StoreError:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Open a connection that cannot write."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    add_functions(connection)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _check_or_create(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA busy_timeout = 5000")
    add_functions(connection)
    (n_tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if n_tables == 0 and application_id == 0 and version == 0:
        _create(connection)
        version = SCHEMA_VERSION
    elif application_id != APPLICATION_ID:
        raise StoreCorrupt(
            f"{path} is a SQLite database of another program (application id {application_id:#x})"
        )
    elif version > SCHEMA_VERSION:
        known = f"this Nearlight reads up to {SCHEMA_VERSION}: use a newer one"
        raise StoreTooNew(f"{path} has schema version {version}; {known}")
    elif version < 1:
        raise StoreCorrupt(f"{path} has schema version {version}, which was never released")
    _check_length(connection, path)
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreError(
            f"{path}: SQLite cannot use its write-ahead log here (mode {mode}); is it a network folder?"
        )
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
    connection.execute("PRAGMA foreign_keys = ON")
    migrate(connection, version)
    check_sealed(connection)
    _check_sequence(connection, path)
    seal_writes(connection)


def _create(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.executescript(
        f"BEGIN IMMEDIATE;{_TABLES}PRAGMA application_id = {APPLICATION_ID};"
        f"PRAGMA user_version = {SCHEMA_VERSION};COMMIT;"
    )


def _check_sequence(connection: sqlite3.Connection, path: Path) -> None:
    """Notice seqs that would be given a second time."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'points'").fetchone()
    if row is None or not isinstance(row[0], int):
        raise StoreCorrupt(f"{path} has lost its sequence of seqs")
    (highest,) = connection.execute(_HIGHEST_SEQ).fetchone()
    if row[0] < highest:
        raise StoreCorrupt(f"{path} counts {row[0]} seqs, but holds seq {highest}")


def _check_length(connection: sqlite3.Connection, path: Path) -> None:
    """Notice a file that was cut short; SQLite itself reads what is missing of the last page as zeros.

    While another process reads an older state, such as a build whose server was killed a moment ago, the
    last pages may rightly be in the log alone: then only what is read can tell.
    """
    for wait_s in _LENGTH_WAITS_S:
        time.sleep(wait_s)
        is_busy, in_log, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if not is_busy and moved == in_log:
            break
    else:
        return
    (n_pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    n_bytes = path.stat().st_size
    if n_bytes < n_pages * page_bytes:
        raise StoreCorrupt(
            f"{path} is cut short: {n_bytes} bytes, but its header counts {n_pages * page_bytes}"
        )
