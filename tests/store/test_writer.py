import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nearlight.store import StoreClosed, StoreError, StoreFull
from nearlight.store.schema import open_database
from nearlight.store.writer import Transaction, Writer


class Recorder:
    """A writer on a real database with a table of its own, and a trace of its transactions."""

    def __init__(self, path: Path) -> None:
        connection = open_database(path)
        connection.execute("CREATE TABLE notes (text TEXT)")
        self.path = path
        self.published: list[str] = []
        self.statements: list[str] = []
        connection.set_trace_callback(self.statements.append)
        self.writer = Writer(connection, lambda _: False)

    def write(self, text: str) -> str:
        def insert(transaction: Transaction) -> str:
            transaction.connection.execute("INSERT INTO notes VALUES (?)", (text,))
            return text

        return self.writer.run(insert, self.published.append)

    def stored(self) -> set[str]:
        connection = sqlite3.connect(self.path)
        rows = {text for (text,) in connection.execute("SELECT text FROM notes")}
        connection.close()
        return rows

    def hold(self) -> threading.Event:
        """Keep the thread busy until the event is set, so that what follows waits together."""
        started, release = threading.Event(), threading.Event()

        def wait(_: Transaction) -> None:
            started.set()
            assert release.wait(10)

        threading.Thread(target=lambda: self.writer.run(wait, lambda _: None)).start()
        assert started.wait(10)
        return release

    def together(self, *calls: object) -> list[object]:
        """Run the calls from threads of their own as one group; returns results and errors in order."""
        release = self.hold()
        results: list[object] = [None] * len(calls)

        def run(i: int) -> None:
            try:
                results[i] = calls[i]()  # type: ignore[operator]
            except Exception as error:
                results[i] = error

        threads = []
        for i in range(len(calls)):
            threads.append(threading.Thread(target=run, args=(i,)))
            threads[-1].start()
            while len(self.writer._waiting) <= i:
                time.sleep(0.001)
        self.statements.clear()
        release.set()
        for thread in threads:
            thread.join(10)
        return results


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    made = Recorder(tmp_path / "notes.sqlite3")
    yield made
    made.writer.close()


def test_what_waits_together_is_committed_once(recorder: Recorder) -> None:
    results = recorder.together(*(lambda i=i: recorder.write(f"note {i}") for i in range(20)))
    assert results == [f"note {i}" for i in range(20)]
    assert recorder.stored() == set(results)
    # The first COMMIT is of the request that held the thread.
    assert recorder.statements.count("COMMIT") == 2
    assert recorder.published == results


def test_a_request_that_fails_takes_only_itself_back(recorder: Recorder) -> None:
    def fail(transaction: Transaction) -> None:
        transaction.connection.execute("INSERT INTO notes VALUES ('half')")
        raise ValueError("mine")

    results = recorder.together(
        lambda: recorder.write("before"),
        lambda: recorder.writer.run(fail, lambda _: recorder.published.append("never")),
        lambda: recorder.write("after"),
    )
    assert (results[0], str(results[1]), results[2]) == ("before", "mine", "after")
    assert recorder.stored() == {"before", "after"}
    assert recorder.published == ["before", "after"]


def test_a_failing_database_fails_only_the_request_that_is_too_much_for_it(recorder: Recorder) -> None:
    recorder.write("small 0")
    (n_pages,) = recorder.writer._transaction.connection.execute("PRAGMA page_count").fetchone()
    recorder.writer._transaction.connection.execute(f"PRAGMA max_page_count = {n_pages + 2}")
    results = recorder.together(
        lambda: recorder.write("small 1"),
        lambda: recorder.write("x" * 10**6),
        lambda: recorder.write("small 2"),
    )
    assert results[0] == "small 1"
    assert isinstance(results[1], StoreFull)
    assert results[2] == "small 2"
    assert recorder.stored() == {"small 0", "small 1", "small 2"}


def test_a_failing_publication_stops_the_writer_and_answers_everyone(recorder: Recorder) -> None:
    def fail(_: object) -> None:
        raise MemoryError

    with pytest.raises(StoreError, match="internal failure .MemoryError."):
        recorder.writer.run(lambda _: None, fail)
    with pytest.raises(StoreError, match="open it again"):
        recorder.write("late")


def test_seqs_rise_and_survive_a_failure_and_a_reopen(tmp_path: Path) -> None:
    path = tmp_path / "seqs.sqlite3"

    def fail(transaction: Transaction) -> None:
        transaction.new_seqs(5)
        raise ValueError("mine")

    seen: list[int] = []
    for _ in range(3):
        writer = Writer(open_database(path), lambda _: False)
        seen += writer.run(lambda transaction: transaction.new_seqs(3), lambda _: None)
        with pytest.raises(ValueError, match="mine"):
            writer.run(fail, lambda _: None)
        seen += writer.run(lambda transaction: transaction.new_seqs(2), lambda _: None)
        writer.close()
    assert seen == sorted(set(seen))


def test_closing_finishes_what_waits_and_then_refuses(recorder: Recorder) -> None:
    release = recorder.hold()
    threads = [threading.Thread(target=recorder.write, args=(f"note {i}",)) for i in range(5)]
    for i, thread in enumerate(threads):
        thread.start()
        while len(recorder.writer._waiting) <= i:
            time.sleep(0.001)
    closing = threading.Thread(target=recorder.writer.close)
    closing.start()
    release.set()
    for thread in [*threads, closing]:
        thread.join(10)
    assert recorder.stored() == {f"note {i}" for i in range(5)}
    with pytest.raises(StoreClosed):
        recorder.write("late")


DAMAGED_SCHEMA = UnicodeDecodeError("utf-8", b"\xf9", 0, 1, "invalid start byte")


@pytest.mark.parametrize("error", [sqlite3.OperationalError("no more"), DAMAGED_SCHEMA])
def test_cleaning_runs_in_steps_and_its_failure_is_no_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    steps = iter([True, True, False])
    done = threading.Event()

    def clean(_: sqlite3.Connection) -> bool:
        more = next(steps, None)
        if more is None:
            raise error
        if not more:
            done.set()
        return more

    writer = Writer(open_database(tmp_path / "a.sqlite3"), clean)
    assert done.wait(10)
    writer.clean_soon()
    while "cleaning the store failed" not in caplog.text:
        time.sleep(0.001)
    assert writer.run(lambda _: 5, lambda _: None) == 5
    writer.close()


def test_after_a_cleaning_that_failed_within_nobody_waits_for_ever(tmp_path: Path) -> None:
    def clean(_: sqlite3.Connection) -> bool:
        raise RuntimeError("a fault of ours")

    writer = Writer(open_database(tmp_path / "a.sqlite3"), clean)
    while writer._failure is None:
        time.sleep(0.001)
    with pytest.raises(StoreError, match="stopped after an internal failure"):
        writer.run(lambda _: 5, lambda _: None)
    writer.close()
