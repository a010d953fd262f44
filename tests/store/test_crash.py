"""Kill -9 at random moments of everything at once: what was acknowledged is there, nothing else is.

Under way are upserts, deletes, changes of payloads, builds and compaction of an index, snapshots,
restorations, aliases, and upgrades to another model and back.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nearlight.store import Collection, SearchParams, Store
from nearlight.store.generations import search
from nearlight.store.generations.keeping import IndexKeeper
from tests.store.crash_writer import THREADS
from tests.store.two_models import embed, fill

HOUSE = Path(__file__).resolve().parents[2]
EXACT, WIDE = SearchParams(exact=True), SearchParams(hnsw_ef=2000)
State = dict[str, int]
"""Id to the number of the call that wrote it."""
Said = list[list[Any]]


class Writers:
    """Writers, one after another."""

    def __init__(self) -> None:
        words = [sys.executable, "-m", "tests.store.crash_writer"]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=HOUSE)

    def run_until_killed(self, folder: Path, first: int, n_calls: int, seconds: float) -> Said:
        """Run a writer, kill it `seconds` after so many acknowledgements, return what it said."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([str(folder), first]).encode() + b"\n")
        self.process.stdin.flush()
        said: Said = []
        while n_calls:
            said.append(self._line())
            assert said[-1][0] not in ("ended", "wrong"), said
            n_calls -= said[-1][0] == "ack"
        (process,) = [line[1] for line in said if line[0] == "began"]
        time.sleep(seconds)
        os.kill(process, signal.SIGKILL)
        while said[-1][0] != "ended":
            said.append(self._line())
        assert os.WTERMSIG(said[-1][1]) == signal.SIGKILL
        return said

    def _line(self) -> list[Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the writers ended by themselves"
        found: list[Any] = json.loads(line)
        return found


@pytest.fixture
def writers() -> Iterator[Writers]:
    made = Writers()
    with made.process:
        yield made
        made.process.kill()


def applied(state: State, call: list[Any]) -> State:
    """A thread's state after one of its calls."""
    _, _, number, operation, ids = call
    if operation == "touch":
        return state
    if operation == "delete":
        return {key: value for key, value in state.items() if key not in ids}
    return state | dict.fromkeys(ids, number)


def possible_states(state: State, said: Said, thread: int) -> list[State]:
    """What this thread's points may be: as acknowledged, or with the call under way at death."""
    calls = [line for line in said if line[0] == "ask" and line[1] == thread]
    acknowledged = {line[2] for line in said if line[0] == "ack" and line[1] == thread}
    assert len(calls) - len(acknowledged) <= 1
    for call in calls:
        if call[2] in acknowledged:
            state = applied(state, call)
    return [state, applied(state, calls[-1])] if calls and calls[-1][2] not in acknowledged else [state]


def possible_spaces(space_id: str, said: Said) -> set[str]:
    """The spaces that the collection may be in: as acknowledged, or with the step under way at death."""
    steps = [line for line in said if line[0] in ("move", "moved")]
    for line in steps:
        if line[0] == "moved":
            space_id = line[2]
    under_way = steps[-1][1] if steps and steps[-1][0] == "move" else ""
    return {"old", "new"} if under_way in ("promote", "roll_back") else {space_id}


def stored_states(collection: Collection) -> list[State]:
    """What each thread has in the store, after a check of every point against the space in use."""
    records, _ = collection.scroll(limit=10_000, with_vectors=True)
    assert len({record.id for record in records}) == len(records) == collection.count()
    states: list[State] = [{} for _ in range(THREADS)]
    for record in records:
        text = record.payload["text"]
        thread, number, key = text.split("/", 2)
        assert key == record.id
        assert record.vector is not None
        assert record.vector.tobytes() == embed(collection.info.space_id, text).tobytes()
        for params in (EXACT, WIDE):  # through the index too, which at this width sees every row
            ((hit,),) = collection.answer(record.vector[None], limit=1, params=params).hits
            assert (hit.id, hit.seq) == (record.id, record.seq)
        states[int(thread)][str(record.id)] = int(number)
    return states


def check_maintenance(store: Store) -> None:
    """Indexes equal the rows; what was restored, what can be restored and the aliases are whole."""
    names = [info.name for info in store.collections()]
    for name in names:
        assert store.collection(name).verify(50).problems == []
    aliases = store.aliases()
    assert set(aliases.values()) <= set(names)
    assert set(aliases) in (set(), {"left", "right"})
    assert len(set(aliases.values())) == len(aliases)
    for snapshot in store.snapshots.list():
        restored = store.snapshots.restore(snapshot.name, "again")
        assert restored.count() == snapshot.n_points
        assert restored.verify(50).problems == []
        store.delete_collection("again")


def crash_rounds(writers: Writers, folder: Path, n_rounds: int, seed: int) -> set[str]:
    """Returns the steps of upgrades that were acknowledged."""
    rng = random.Random(seed)
    states: list[State] = [{} for _ in range(THREADS)]
    space_id, last_seq, n_acknowledged = "old", 0, 0
    steps, indexes = set[str](), set[tuple[str, int]]()
    for turn in range(n_rounds):
        n_calls, seconds = rng.choice([1, 20, 60]), rng.uniform(0.0, 0.4)
        said = writers.run_until_killed(folder, turn * 1_000_000, n_calls, seconds)
        assert [line for line in said if line[0] == "wrong"] == []
        n_acknowledged += sum(line[0] == "ack" for line in said)
        steps |= {line[1] for line in said if line[0] == "moved"}
        with Store.open(folder, n_threads=1) as store:
            collection = store.collection("c")
            info = collection.info
            assert info.space_id in possible_spaces(space_id, said)
            assert info.last_seq >= last_seq
            assert info.index.state == "ready"  # what the database names is whole
            space_id, last_seq = info.space_id, info.last_seq
            indexes |= {(space_id, info.index.generation)} if info.index.generation else set()
            found = stored_states(collection)
            check_maintenance(store)
        for thread in range(THREADS):
            assert found[thread] in possible_states(states[thread], said, thread), f"{turn}, thread {thread}"
        states = found
    assert n_acknowledged > 5 * n_rounds
    assert len(indexes) >= n_rounds // 10
    return steps


def finish(folder: Path) -> None:
    """What was begun can be ended, with every point that is there."""
    with Store.open(folder, n_threads=1) as store:
        if not store.collection("c").info.other_space_id:
            return
        upgrade = store.upgrades.get("c")
        if upgrade.state != "promoted":
            fill(store, "c", upgrade.new.space_id)
            store.upgrades.promote("c")
        before = stored_states(store.collection("c"))
        store.upgrades.clean("c")
        assert store.collection("c").info.space_id == upgrade.new.space_id
        assert stored_states(store.collection("c")) == before
        assert store.collection("c").verify(50).problems == []


@pytest.fixture(autouse=True)
def small_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches use an index of few rows; none is built while we look."""
    monkeypatch.setattr(search, "FEW_ROWS", 0)
    monkeypatch.setattr(IndexKeeper, "_due", lambda *_: False)


def test_kill_9_loses_nothing_acknowledged_and_invents_nothing(writers: Writers, tmp_path: Path) -> None:
    steps = crash_rounds(writers, tmp_path, 10, seed=1)
    finish(tmp_path)
    assert "start" in steps


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_kill_9_many_times(writers: Writers, tmp_path: Path) -> None:
    steps = crash_rounds(writers, tmp_path, 200, seed=2)
    finish(tmp_path)
    assert {"start", "promote", "roll_back", "cancel", "clean"} <= steps
