"""Export and import: exact round trips through every kind of file, resumed after anything."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from nearlight.client import Client, NearlightError, Point, TransferFailed, cli
from nearlight.client.transfer.exporting import Export
from nearlight.client.transfer.files import Columns, open_files
from nearlight.client.transfer.importing import Import, Note

Run = Callable[..., Any]
DIM = 16
PAYLOADS: list[dict[str, Any]] = [
    {},
    {"text": 'naïve \u2028 \n \r \t " \\ \U0001f600 \x00'},
    {"big": 2**70, "small": -(2**53) - 1, "float": 0.1, "tiny": 5e-324, "none": None, "yes": True},
    {"deep": {"list": [[], {}, [1, [2, {"a": []}]]]}, "": "empty key", "a.b": 1},
]


@pytest.fixture
def client(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with Client(address) as made:
        yield made


@pytest.fixture
def nearlight(address: str, client: Client, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("NEARLIGHT_SERVER", address)
    return lambda *words: CliRunner().invoke(cli.app, [str(word) for word in words])


def content(client: Client, collection: str) -> list[tuple[Any, ...]]:
    """Everything, with the bits of the vectors."""
    records = client.scroll(collection, with_vectors=True, page_size=1000)
    return [
        (type(one.id), one.id, json.dumps(one.payload), one.vector.tobytes())
        for one in records
        if one.vector is not None
    ]


@pytest.fixture
def filled(client: Client, collection: str) -> str:
    """300 points with ids of both kinds, among them the awkward ones."""
    rng = np.random.default_rng(5)
    ids: list[Any] = [0, 7, "7", 2**64 - 1, 2**63, "ä\n\"'", "x" * 512, " ", "null", *range(1000, 1291)]
    vectors = rng.normal(size=(300, DIM)) * 10.0 ** rng.integers(-3, 3, (300, 1))
    points = [Point(key, PAYLOADS[i % 4], vector=vectors[i]) for i, key in enumerate(ids)]
    assert client.upsert(collection, points).errors == ()
    return collection


@pytest.mark.parametrize("out", ["a.parquet", "a.npy", "folder"])
def test_a_round_trip_changes_not_one_bit(
    nearlight: Run, client: Client, filled: str, tmp_path: Path, out: str
) -> None:
    done = nearlight("collections", "export", filled, "--out", tmp_path / out, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {
        "collection": filled,
        "out": str(tmp_path / out),
        "rows": 300,
        "resumed": 0,
    }
    names = {"a.parquet": {"a.parquet"}, "a.npy": {"a.npy", "a.jsonl"}, "folder": {"folder"}}[out]
    assert {path.name for path in tmp_path.iterdir()} == names
    other = f"{filled}-{out.split('.')[-1]}"
    done = nearlight("collections", "import", other, tmp_path / out, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"collection": other, "written": 300, "resumed": 0, "failed": []}
    assert content(client, other) == content(client, filled)
    assert client.collection(other).space_id == client.collection(filled).space_id
    assert list((tmp_path / "state").rglob("*.json")) == []


def test_the_files_are_readable_without_our_code(client: Client, filled: str, tmp_path: Path) -> None:
    Export(client, filled, tmp_path / "a.parquet").run()
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column_names == ["id", "id_number", "vector", "payload"]
    assert table.column("id_number").to_pylist()[0] == 0
    Export(client, filled, tmp_path / "a.npy").run()
    vectors = np.load(tmp_path / "a.npy")
    assert (vectors.shape, vectors.dtype) == ((300, DIM), np.float32)
    listed: list[Any] = table.column("vector").to_pylist()
    assert np.array_equal(vectors, np.stack(listed))
    lines = (tmp_path / "a.jsonl").read_text("utf-8").split("\n")
    assert json.loads(lines[0])["nearlight"]["space_id"] == client.collection(filled).space_id
    assert [json.loads(line)["id"] for line in lines[1:3]] == [0, 7]


def test_an_empty_collection_makes_empty_files(client: Client, collection: str, tmp_path: Path) -> None:
    for name in ("a.parquet", "a.npy", "folder"):
        Export(client, collection, tmp_path / name).run()
        run = Import(client, f"{collection}-again", open_files(tmp_path / name, Columns()))
        run.run()
        assert run.rows == client.count(f"{collection}-again") == 0


class Stop(Exception):
    """What a test interrupts with."""


@pytest.mark.parametrize("out", ["a.parquet", "a.npy", "folder"])
def test_an_export_goes_on_behind_its_last_part(
    client: Client, filled: str, tmp_path: Path, out: str
) -> None:
    """It is stopped after every part; parts that are there are not read again."""
    runs = 0
    while True:
        seen: list[int] = []

        def stop(run: Export, seen: list[int] = seen) -> None:
            seen.append(run.rows)
            if len(seen) == 2:
                raise Stop

        run = Export(client, filled, tmp_path / out, stop, part_bytes=1)
        runs += 1
        try:
            run.run()
            break
        except Stop:
            # What a kill in the midst of a part leaves behind.
            (run.folder / "part-999999.parquet.tmp").write_bytes(b"half")
    assert runs > 1
    assert run.rows == 300
    Import(client, f"{filled}-{runs}", open_files(tmp_path / out, Columns())).run()
    assert content(client, f"{filled}-{runs}") == content(client, filled)


def test_points_that_stay_are_exported_once_whatever_is_written_meanwhile(
    client: Client, filled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nearlight.client.transfer.exporting.PAGE_BYTES", 1)  # 16 rows a page
    before = {row[1]: row for row in content(client, filled)}

    def disturb(run: Export) -> None:
        client.delete(filled, [1000 + run.rows // 2])
        client.upsert(filled, [Point(f"new {run.rows}", vector=np.eye(DIM)[0])])

    Export(client, filled, tmp_path / "a.parquet", disturb, part_bytes=1).run()
    stayed = [row for row in content(client, filled) if row[1] in before]
    Import(client, f"{filled}-once", open_files(tmp_path / "a.parquet", Columns())).run()
    found = [row for row in content(client, f"{filled}-once") if row[1] in {one[1] for one in stayed}]
    assert found == stayed
    ids = [row["id"] or row["id_number"] for row in pq.read_table(tmp_path / "a.parquet").to_pylist()]
    assert len(set(ids)) == len(ids)


def test_parts_of_another_collection_are_refused(client: Client, filled: str, tmp_path: Path) -> None:
    def stop(run: Export) -> None:
        if run.rows:
            raise Stop

    with pytest.raises(Stop):
        Export(client, filled, tmp_path / "folder", stop, part_bytes=1).run()
    with pytest.raises(TransferFailed, match="is not finished: run the same export again"):
        open_files(tmp_path / "folder", Columns())
    info = client.collection(filled)
    client.delete_collection(filled)
    client.create_collection(filled, space=(info.space_id, info.dim))
    with pytest.raises(TransferFailed, match=r"part-000000\.parquet is of collection .* it is another now"):
        Export(client, filled, tmp_path / "folder").run()


def test_what_is_there_is_not_overwritten(client: Client, filled: str, tmp_path: Path) -> None:
    for name in ("a.parquet", "folder"):
        Export(client, filled, tmp_path / name).run()
        with pytest.raises(TransferFailed, match="already"):
            Export(client, filled, tmp_path / name).run()


def test_an_import_goes_on_behind_what_was_acknowledged(
    client: Client, filled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Export(client, filled, tmp_path / "a.parquet").run()
    monkeypatch.setattr("nearlight.client.transfer.importing.NOTE_SECONDS", -1.0)
    monkeypatch.setattr("nearlight.client.transfer.importing.BATCH_POINTS", 32)

    def stop(run: Import) -> None:
        if run.rows >= 96:
            raise Stop

    files = open_files(tmp_path / "a.parquet", Columns())
    with pytest.raises(Stop):
        Import(client, "resumed", files, "", stop).run()
    again = Import(client, "resumed", files)
    again.run()
    assert again.resumed >= 96
    assert (again.rows, again.failed) == (300, [])
    assert content(client, "resumed") == content(client, filled)


def test_a_note_is_not_believed_where_the_collection_lost_the_write(
    client: Client, filled: str, tmp_path: Path
) -> None:
    Export(client, filled, tmp_path / "a.parquet").run()
    files = open_files(tmp_path / "a.parquet", Columns())
    info = client.collection(filled)
    note = Note.of(client, info, files)
    note.write(100, info.last_seq)
    assert note.read(info) == 100
    note.write(100, info.last_seq + 1)  # as after a power loss, with relaxed durability
    assert note.read(info) == 0
    (tmp_path / "a.parquet").touch()
    assert Note.of(client, info, files) != note


def test_vectors_of_another_space_are_refused(
    client: Client, filled: str, tmp_path: Path, nearlight: Run
) -> None:
    Export(client, filled, tmp_path / "a.parquet").run()
    client.create_collection("elsewhere", space=("another", DIM))
    done = nearlight("collections", "import", "elsewhere", tmp_path / "a.parquet")
    assert done.exit_code == 1
    assert "collection 'elsewhere' is of space 'another', dim 16" in done.stderr
    assert client.count("elsewhere") == 0
    wide = client.create_collection("wide", space=("wide", DIM + 1))
    np.save(tmp_path / "b.npy", np.ones((3, DIM), np.float32))
    with pytest.raises(TransferFailed, match="dim 16; collection 'wide' is of space 'wide', dim 17"):
        Import(client, "wide", open_files(tmp_path / "b.npy", Columns()), wide.space_id).run()
    with pytest.raises(TransferFailed, match="does not say of which space its vectors are"):
        Import(client, "nowhere", open_files(tmp_path / "b.npy", Columns())).run()


def test_files_of_others_are_taken_where_the_space_is_named(
    client: Client, nearlight: Run, tmp_path: Path
) -> None:
    rows = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float16)
    columns = {
        "name": [f"n{i}" for i in range(20)],
        "emb": [row.tolist() for row in rows],
        "year": list(range(20)),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    words = ("--id-column", "name", "--vector-column", "emb", "--space-id", "mine")
    assert nearlight("collections", "import", "theirs", tmp_path / "a.parquet", *words).exit_code == 0
    [record] = client.get("theirs", ["n7"], with_vectors=True)
    assert record.payload == {"year": 7}
    assert record.vector is not None
    assert np.allclose(record.vector, rows[7] / np.linalg.norm(rows[7].astype(np.float64)), atol=1e-3)
    np.save(tmp_path / "b.npy", rows)
    assert (
        nearlight("collections", "import", "numbered", tmp_path / "b.npy", "--space-id", "mine").exit_code
        == 0
    )
    assert [record.id for record in client.scroll("numbered")] == list(range(20))


def test_rows_that_are_refused_are_named_and_the_others_written(
    client: Client, nearlight: Run, tmp_path: Path
) -> None:
    rows = np.eye(4, dtype=np.float32)
    rows[2] = 0
    np.save(tmp_path / "a.npy", rows)
    done = nearlight("collections", "import", "some", tmp_path / "a.npy", "--space-id", "mine", "--json")
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert (report["written"], [one["row"] for one in report["failed"]]) == (3, [2])
    assert "all zeros" in report["failed"][0]["reason"]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda file: file.write_bytes(b"PAR1"), "cannot read"),
        (lambda file: pq.write_table(pa.table({"x": [1]}), file), "has no column 'vector'; it has x"),
        (
            lambda file: pq.write_table(pa.table({"vector": [[1.0, 2.0], [1.0]]}), file),
            r"its vectors (have 1 to 2 numbers|are not all of one length)",
        ),
    ],
)
def test_a_file_that_is_no_good_is_named(client: Client, tmp_path: Path, write: Any, message: str) -> None:
    write(tmp_path / "a.parquet")
    with pytest.raises(TransferFailed, match=message):
        Import(client, "bad", open_files(tmp_path / "a.parquet", Columns()), "of the bad").run()


def test_a_missing_collection_and_a_missing_file_are_told(nearlight: Run, tmp_path: Path) -> None:
    assert nearlight("collections", "export", "nobody", "--out", tmp_path / "a.parquet").exit_code == 1
    assert nearlight("collections", "import", "nobody", tmp_path / "no.npy").exit_code == 1
    assert issubclass(TransferFailed, NearlightError)


SLOW_RUN = """
import signal, sys, time
from pathlib import Path
from nearlight.client import Client
from nearlight.client.transfer import exporting, importing
from nearlight.client.transfer.files import Columns, open_files
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
importing.NOTE_SECONDS, importing.BATCH_POINTS, exporting.PAGE_BYTES = 0.0, 64, 1
what, address, name, path = sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4])

def on_progress(run):
    print(run.rows - run.resumed, flush=True)
    time.sleep(0.02)

with Client(address) as client:
    if what == "export":
        exporting.Export(client, name, path, on_progress, part_bytes=1).run()
    else:
        importing.Import(client, name, open_files(path, Columns()), "", on_progress).run()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_process_that_was_killed_goes_on_in_the_next(
    client: Client, address: str, filled: str, tmp_path: Path, how: signal.Signals
) -> None:
    other, out = f"{filled}-{how.name}", tmp_path / "a.parquet"
    for words in (["export", address, filled, str(out)], ["import", address, other, str(out)]):
        first: list[int] = []
        for turn in range(2):
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
            with subprocess.Popen(
                [sys.executable, "-c", SLOW_RUN, *words],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            ) as process:
                assert process.stdout is not None
                for line in process.stdout:
                    first.append(int(line))
                    if turn == 0 and first[-1] >= 100:
                        process.send_signal(how)
            assert (process.returncode == 0) == (turn == 1)
        assert first[-1] <= 300 - 64  # the second run did not begin anew
    assert content(client, other) == content(client, filled)
