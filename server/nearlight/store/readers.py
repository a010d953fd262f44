"""Connections that only read, one per concurrent reader, kept for the next."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nearlight.store.errors import StoreClosed, from_sqlite
from nearlight.store.schema import open_reader


class Readers:
    """A pool of read connections."""

    def __init__(self, path: Path) -> None:
        """Open connections as they are needed."""
        self._path = path
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._closed = False

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """One committed state of the database, the same for all statements within.

        The state is fixed on entry.

        Raises:
            StoreError: the database failed.
        """
        try:
            connection = self._take()
            try:
                connection.execute("BEGIN")
                connection.execute(
                    "SELECT 1 FROM collections LIMIT 1"
                ).fetchone()  # BEGIN alone fixes nothing yet
                yield connection
            finally:
                self._give(connection)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise from_sqlite(error) from error

    def close(self) -> None:
        """Close what is idle now; what is in use closes when it comes back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._closed:
                raise StoreClosed("the store was closed")
            if self._idle:
                return self._idle.pop()
        return open_reader(self._path)

    def _give(self, connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()
