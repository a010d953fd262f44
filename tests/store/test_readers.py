import threading
from pathlib import Path

import pytest

from nearlight.store import StoreClosed, StoreError
from nearlight.store.readers import Readers
from nearlight.store.schema import open_database


def test_a_snapshot_is_one_state_while_others_write(tmp_path: Path) -> None:
    writer = open_database(tmp_path / "a.sqlite3")
    readers = Readers(tmp_path / "a.sqlite3")
    count = "SELECT count(*) FROM spaces"
    with readers.snapshot() as connection:
        writer.execute("INSERT INTO spaces (space_id, dim, created_unix_ms) VALUES ('s', 1, 0)")
        assert connection.execute(count).fetchone() == (0,)
        with readers.snapshot() as other:
            assert other is not connection
            assert other.execute(count).fetchone() == (1,)
    with readers.snapshot() as connection:
        assert connection.execute(count).fetchone() == (1,)
    readers.close()
    writer.close()


def test_a_snapshot_cannot_write_and_says_so_in_our_words(tmp_path: Path) -> None:
    open_database(tmp_path / "a.sqlite3").close()
    readers = Readers(tmp_path / "a.sqlite3")
    with pytest.raises(StoreError, match="readonly"), readers.snapshot() as connection:
        connection.execute("DELETE FROM spaces")
    readers.close()


def test_closing_waits_for_nobody_and_refuses_new_readers(tmp_path: Path) -> None:
    open_database(tmp_path / "a.sqlite3").close()
    readers = Readers(tmp_path / "a.sqlite3")
    inside, leave = threading.Event(), threading.Event()

    def read() -> None:
        with readers.snapshot() as connection:
            inside.set()
            leave.wait(10)
            connection.execute("SELECT * FROM spaces").fetchall()

    thread = threading.Thread(target=read)
    thread.start()
    inside.wait(10)
    readers.close()
    with pytest.raises(StoreClosed), readers.snapshot():
        pass
    leave.set()
    thread.join(10)
    assert readers._idle == []
