"""The one thread that writes: group commit, then publication.

Callers block in `run`. The thread takes every request that waits, runs each in its own savepoint of one
transaction, commits once (one fsync), publishes, and only then wakes the callers: what a caller was told is
on the disk and visible. A request that fails takes only itself back. When the database itself fails, each
request of the group is tried again alone, so that one that is too big for the disk does not take the others
with it.

A group in which every request is relaxed is committed without waiting for the disk (SQLite:
synchronous=NORMAL; it survives the death of the process, not of the machine). The thread syncs the
write-ahead log itself soon after.
"""

import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from nearlight.store.errors import StoreClosed, StoreCorrupt, StoreError, from_sqlite

T = TypeVar("T")
_MAX_GROUP_ROWS = 20_000
# A relaxed write is on the disk so long after its commit, plus one group and one sync.
RELAXED_SYNC_SECONDS = 0.5
_log = logging.getLogger(__name__)


class Transaction:
    """What a request may use while it writes: the connection, and new seqs."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Continue after the highest seq that was ever given out."""
        self.connection = connection
        row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'points'").fetchone()
        if row is None:
            raise StoreCorrupt("the database has lost its sequence of seqs")
        self._last_seq: int = row[0]

    def new_seqs(self, n: int) -> range:
        """The next n seqs. They are never given again, even when the request fails."""
        first = self._last_seq + 1
        self._last_seq += n
        return range(first, first + n)

    def keep_seqs(self) -> None:
        """Remember in the database what was given out."""
        self.connection.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'points'", (self._last_seq,))


class _Request:
    def __init__(
        self,
        write: Callable[[Transaction], Any],
        publish: Callable[[Any], None],
        n_rows: int,
        is_relaxed: bool,
    ) -> None:
        self.is_relaxed = is_relaxed
        self.write = write
        self.publish = publish
        self.n_rows = n_rows
        self.future: Future[Any] = Future()
        self.result: Any = None
        self.error: Exception | None = None


class Writer:
    """Owns the write connection and the thread that uses it."""

    def __init__(self, connection: sqlite3.Connection, clean: Callable[[sqlite3.Connection], bool]) -> None:
        """Start the thread.

        Args:
            connection: used by no other thread from now on.
            clean: does one short step of background cleaning in a transaction; returns whether more is left.
        """
        self.publishing = threading.Lock()  # held from a commit until its publication
        self._transaction = Transaction(connection)
        self._log_file = f"{_path_of(connection)}-wal"
        self._is_relaxed = False  # the connection's mode
        self._unsynced_since: float | None = None  # of the oldest commit that may not be on the disk
        self._clean = clean
        self._must_clean = True
        self._waiting: deque[_Request] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._failure: str | None = None
        self._thread = threading.Thread(target=self._work, name="nearlight-store-writer", daemon=True)
        self._thread.start()

    def run(
        self,
        write: Callable[[Transaction], T],
        publish: Callable[[T], None],
        n_rows: int = 1,
        *,
        is_relaxed: bool = False,
    ) -> T:
        """Run a request in the next group and wait until it is durable and published.

        Args:
            write: writes through the transaction; what it raises is raised here and nothing of it is kept.
            publish: gets the result after the commit; must not fail.
            n_rows: about how many rows it writes.
            is_relaxed: do not wait for the disk; see above.

        Raises:
            StoreError: the database failed, or the store is closed.
        """
        request = _Request(write, publish, n_rows, is_relaxed)
        with self._changed:
            if self._failure is not None:
                raise StoreError(self._failure)
            if self._closed:
                raise StoreClosed("the store was closed")
            self._waiting.append(request)
            self._changed.notify()
        result: T = request.future.result()
        return result

    def clean_soon(self) -> None:
        """Ask for background cleaning."""
        with self._changed:
            self._must_clean = True
            self._changed.notify()

    def close(self) -> None:
        """Finish what waits, stop the thread and close the connection."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self._closed or self._must_clean or self._must_sync()):
                    self._changed.wait(self._seconds_to_sync())
                group = self._next_group()
                if self._closed and not group:
                    break
            if group:
                self._serve(group)
            if self._must_clean:
                self._clean_once()
            if self._must_sync():
                self._sync()
        if self._unsynced_since is not None:
            self._sync()
        self._transaction.connection.close()

    def _next_group(self) -> list[_Request]:
        group: list[_Request] = []
        n_rows = 0
        while self._waiting and (not group or n_rows + self._waiting[0].n_rows <= _MAX_GROUP_ROWS):
            request = self._waiting.popleft()
            n_rows += request.n_rows
            group.append(request)
        return group

    def _serve(self, group: list[_Request]) -> None:
        """Commit a group and answer its callers; whatever happens, every caller gets an answer."""
        try:
            self._commit(group)
        except sqlite3.Error as error:
            self._roll_back()
            if len(group) > 1:
                for request in group:
                    self._serve([request])
                return
            group[0].error = from_sqlite(error)
        except Exception as error:
            self._fail(error)
            for request in group:
                request.error = request.error or StoreError(self._failure)
        for request in group:
            if request.error is not None:
                request.future.set_exception(request.error)
            else:
                request.future.set_result(request.result)

    def _commit(self, group: list[_Request]) -> None:
        connection = self._transaction.connection
        is_relaxed = all(request.is_relaxed for request in group)
        self._set_mode(is_relaxed)
        connection.execute("BEGIN IMMEDIATE")
        for request in group:
            request.error = None
            connection.execute("SAVEPOINT request")
            try:
                request.result = request.write(self._transaction)
            except sqlite3.Error:
                raise  # it may have ended the whole transaction
            except Exception as error:
                connection.execute("ROLLBACK TO request")
                request.error = error
            connection.execute("RELEASE request")
        self._transaction.keep_seqs()
        with self.publishing:
            connection.execute("COMMIT")
            for request in group:
                if request.error is None:
                    request.publish(request.result)
        if not is_relaxed:
            self._unsynced_since = None  # the log is synced as a whole
        elif self._unsynced_since is None:
            self._unsynced_since = time.monotonic()

    def _set_mode(self, is_relaxed: bool) -> None:
        if is_relaxed != self._is_relaxed:
            self._transaction.connection.execute(f"PRAGMA synchronous = {'NORMAL' if is_relaxed else 'FULL'}")
            self._is_relaxed = is_relaxed

    def _seconds_to_sync(self) -> float | None:
        if self._unsynced_since is None:
            return None
        return max(0.0, self._unsynced_since + RELAXED_SYNC_SECONDS - time.monotonic())

    def _must_sync(self) -> bool:
        return self._seconds_to_sync() == 0

    def _sync(self) -> None:
        """Bring relaxed commits to the disk. Where SQLite empties the log, it has synced it before."""
        try:
            # SQLite locks the database and the index of the log, never the log: closing this takes no lock
            # away.
            descriptor = os.open(self._log_file, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:  # what the disk lost will not come back with another try
            self._fail(error)
        self._unsynced_since = None

    def _clean_once(self) -> None:
        connection = self._transaction.connection
        self._must_clean = False
        try:
            self._set_mode(is_relaxed=False)
            connection.execute("BEGIN IMMEDIATE")
            is_more_left = self._clean(connection)
            connection.execute("COMMIT")
            connection.executescript("PRAGMA incremental_vacuum(2048)")  # execute() would free one page only
        except (sqlite3.Error, UnicodeDecodeError):  # the second: its schema is damaged
            self._roll_back()
            _log.exception("cleaning the store failed; it is tried again at the next open")
        except Exception as error:
            self._fail(error)
        else:
            if is_more_left:
                self.clean_soon()

    def _roll_back(self) -> None:
        connection = self._transaction.connection
        if connection.in_transaction:
            with suppress(sqlite3.Error):  # if this fails too, the next BEGIN says so to its caller
                connection.execute("ROLLBACK")

    def _fail(self, error: Exception) -> None:
        """Stop taking writes: what readers see may differ from the database."""
        _log.error("the store stops taking writes", exc_info=error)
        self._roll_back()
        with self._changed:
            self._failure = (
                f"the store stopped after an internal failure ({type(error).__name__}); open it again"
            )


def _path_of(connection: sqlite3.Connection) -> str:
    return str(connection.execute("PRAGMA database_list").fetchone()[2])
