"""Kill -9 while a collection is written to and upgraded to and fro: acknowledged writes and steps stand."""

import random
from pathlib import Path
from typing import Any

import pytest

from nearlight.store import Collection, Store
from tests.store.test_crash import State, possible_states, run_until_killed
from tests.store.two_models import embed, fill

THREADS = 3
Said = list[list[Any]]


def possible_spaces(space_id: str, said: Said) -> set[str]:
    """The spaces that the collection may be in: as acknowledged, or with the step under way at death."""
    steps = [line for line in said if line[0] in ("move", "moved")]
    for line in steps:
        if line[0] == "moved":
            space_id = line[2]
    under_way = steps[-1][1] if steps and steps[-1][0] == "move" else ""
    return {"old", "new"} if under_way in ("promote", "roll_back") else {space_id}


def stored_states(collection: Collection) -> list[State]:
    """What each thread has in the store, after a check of every vector against the space in use."""
    records, _ = collection.scroll(limit=10_000, with_vectors=True)
    assert len({record.id for record in records}) == len(records) == collection.count()
    states: list[State] = [{} for _ in range(THREADS)]
    for record in records:
        text = record.payload["text"]
        thread, number, key = text.split("/", 2)
        assert key == record.id
        assert record.vector is not None
        assert record.vector.tobytes() == embed(collection.info.space_id, text).tobytes()
        states[int(thread)][str(record.id)] = int(number)
    return states


def crash_rounds(folder: Path, n_rounds: int, seed: int) -> list[str]:
    """Returns the steps of upgrades that were acknowledged."""
    rng = random.Random(seed)
    states: list[State] = [{} for _ in range(THREADS)]
    space_id, steps = "old", list[str]()
    for turn in range(n_rounds):
        command = ["-m", "tests.store.upgrade_writer", str(folder), str(turn * 1_000_000)]
        said = run_until_killed(command, rng.uniform(0.0, 0.6))
        assert not [line for line in said if line[0] == "wrong"]
        steps += [line[1] for line in said if line[0] == "moved"]
        with Store.open(folder, n_threads=1) as store:
            collection = store.collection("c")
            assert collection.info.space_id in possible_spaces(space_id, said)
            space_id = collection.info.space_id
            found = stored_states(collection)
            assert collection.verify(50).problems == []
        for thread in range(THREADS):
            assert found[thread] in possible_states(states[thread], said, thread), f"round {turn}"
        states = found
    return steps


def finish(folder: Path) -> None:
    """What was begun can be ended, with every point that is there."""
    with Store.open(folder, n_threads=1) as store:
        if not store.collection("c")._family.other_space_id("old"):
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


def test_kill_9_while_the_model_changes(tmp_path: Path) -> None:
    steps = crash_rounds(tmp_path, 5, seed=1)
    finish(tmp_path)
    assert "promote" in steps


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_kill_9_while_the_model_changes_many_times(tmp_path: Path) -> None:
    steps = crash_rounds(tmp_path, 100, seed=2)
    finish(tmp_path)
    assert {"start", "promote", "roll_back", "cancel", "clean"} <= set(steps)
