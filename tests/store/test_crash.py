"""Kill -9 at random moments under concurrent writes: what was acknowledged is there, nothing else is."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearlight.store import Collection, SearchParams, Store
from nearlight.store.generations import search
from nearlight.store.generations.keeping import IndexKeeper
from nearlight.store.validation import unit_rows

WRITER = Path(__file__).parent / "crash_writer.py"
HOUSE = Path(__file__).resolve().parents[2]
DIM = 16
EXACT, WIDE = SearchParams(exact=True), SearchParams(hnsw_ef=2000)
State = dict[str, int]
"""Id to the number of the call that wrote it."""


def applied(state: State, call: list[Any]) -> State:
    """A thread's state after one of its calls."""
    _, _, number, operation, ids = call
    if operation == "touch":
        return state
    if operation == "delete":
        return {key: value for key, value in state.items() if key not in ids}
    return state | dict.fromkeys(ids, number)


def run_until_killed(command: list[str], seconds: float) -> list[list[Any]]:
    """Run a writer, kill it `seconds` after its first acknowledgement, return what it said."""
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, cwd=HOUSE) as writer:
        assert writer.stdout is not None
        lines: list[bytes] = []
        while not (lines and b'"ack"' in lines[-1]):
            lines.append(writer.stdout.readline())
            assert lines[-1], "the writer ended by itself"
        time.sleep(seconds)
        writer.kill()
        lines += writer.stdout.readlines()
    assert writer.returncode == -9
    return [json.loads(line) for line in lines]


def possible_states(state: State, said: list[list[Any]], thread: int) -> list[State]:
    """What this thread's points may be: as acknowledged, or with the call under way at death."""
    calls = [line for line in said if line[0] == "ask" and line[1] == thread]
    acknowledged = {line[2] for line in said if line[0] == "ack" and line[1] == thread}
    assert len(calls) - len(acknowledged) <= 1
    for call in calls:
        if call[2] in acknowledged:
            state = applied(state, call)
    return [state, applied(state, calls[-1])] if calls and calls[-1][2] not in acknowledged else [state]


def stored_states(collection: Collection, asked: dict[tuple[int, int], list[str]]) -> list[State]:
    """What each thread has in the store, after a check of every point against what its call wrote."""
    records, _ = collection.scroll(limit=10_000, with_vectors=True)
    assert len({record.id for record in records}) == len(records) == collection.count()
    states: list[State] = [{}, {}, {}, {}]
    for record in records:
        thread, number = record.payload["thread"], record.payload["number"]
        ids = asked[thread, number]
        wide = np.random.default_rng([thread, number]).standard_normal((len(ids), DIM))
        vectors = unit_rows(wide.astype(np.float32))
        last = len(ids) - 1 - ids[::-1].index(str(record.id))
        assert record.vector is not None
        assert record.vector.tobytes() == vectors[last].tobytes()
        for params in (EXACT, WIDE):  # through the index too, which at this width sees every row
            ((hit,),) = collection.answer(record.vector[None], limit=1, params=params).hits
            assert (hit.id, hit.seq) == (record.id, record.seq)
        states[thread][str(record.id)] = number
    return states


def check_maintenance(store: Store) -> None:
    """Indexes equal the rows; what was restored, what can be restored and the aliases are whole."""
    names = [info.name for info in store.collections()]
    for name in names:
        assert store.collection(name).verify(100).problems == []
    aliases = store.aliases()
    assert set(aliases.values()) <= set(names)
    assert set(aliases) in (set(), {"left", "right"})
    assert len(set(aliases.values())) == len(aliases)
    for snapshot in store.snapshots.list():
        restored = store.snapshots.restore(snapshot.name, "again")
        assert restored.count() == snapshot.n_points
        assert restored.verify(100).problems == []
        store.delete_collection("again")


def crash_rounds(folder: Path, n_rounds: int, seed: int) -> None:
    rng = random.Random(seed)
    states: list[State] = [{}, {}, {}, {}]
    asked: dict[tuple[int, int], list[str]] = {}
    n_acknowledged = 0
    last_seq = 0
    generations: set[int] = set()
    for turn in range(n_rounds):
        said = run_until_killed([str(WRITER), str(folder), str(turn * 1_000_000)], rng.uniform(0.0, 0.6))
        n_acknowledged += sum(line[0] == "ack" for line in said)
        asked |= {(line[1], line[2]): line[4] for line in said if line[0] == "ask"}
        with Store.open(folder, n_threads=1) as store:
            collection = store.collection("c")
            found = stored_states(collection, asked)
            assert collection.info.last_seq > last_seq
            last_seq = collection.info.last_seq
            assert collection.info.index.state == "ready"  # what the database names is whole
            generations.add(collection.info.index.generation)
            check_maintenance(store)
        for thread in range(4):
            assert found[thread] in possible_states(states[thread], said, thread), (
                f"round {turn}, thread {thread}"
            )
        states = found
    assert n_acknowledged > 5 * n_rounds
    assert len(generations) >= n_rounds // 4


@pytest.fixture(autouse=True)
def small_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches use an index of few rows; none is built while we look."""
    monkeypatch.setattr(search, "FEW_ROWS", 0)
    monkeypatch.setattr(IndexKeeper, "_due", lambda *_: False)


def test_kill_9_loses_nothing_acknowledged_and_invents_nothing(tmp_path: Path) -> None:
    crash_rounds(tmp_path, 10, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_kill_9_many_times(tmp_path: Path) -> None:
    crash_rounds(tmp_path, 200, seed=2)
