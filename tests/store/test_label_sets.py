"""Label sets: durable, replaced whole, listed by name, never read wrong."""

import random
import sqlite3
import string
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nearlight.store import (
    Calibration,
    InvalidLabelSet,
    Label,
    LabelSet,
    LabelSetExists,
    LabelSetNotFound,
    Store,
    StoreCorrupt,
    WrongSpace,
)
from nearlight.store.schema import DATABASE_FILE

PETS = LabelSet(
    "pets",
    space_id="s",
    dim=4,
    labels=(Label("cat", ("cat", "kitten")), Label("Hund \N{DOG FACE}")),
    templates=("a {}", 'the "{}"'),
    model="m",
    min_probability=0.25,
    calibration=Calibration(0.5, -1.5, 0.2, 0.03, 80, 20),
)

KILLED = """
import os, sys
from pathlib import Path
from nearlight.store import Label, LabelSet, Store
store = Store.open(Path(sys.argv[1]), n_threads=1)
number = int(sys.argv[2])
while True:
    number += 1
    os.write(1, f"ask {number}\\n".encode())
    name = f"n{number % 3}"
    if number % 7 == 0:
        store.label_sets.put(LabelSet("once", "s", 4, (Label("x"),)))
        store.label_sets.delete("once")
    store.label_sets.put(LabelSet(name, "s", 4, (Label(str(number)),)))
    os.write(1, f"ack {number}\\n".encode())
"""


def test_what_was_put_is_got_after_a_new_start(tmp_path: Path) -> None:
    with Store.open(tmp_path, n_threads=1) as store:
        stored = store.label_sets.put(PETS)
    assert stored.updated_unix_ms > 0
    assert replace(stored, updated_unix_ms=0) == PETS
    for _ in range(3):
        with Store.open(tmp_path, n_threads=1) as store:
            assert store.label_sets.get("pets") == stored
            assert store.label_sets.page("", 10) == [stored]


def test_a_put_replaces_the_set_of_that_name_in_whatever_space(store: Store) -> None:
    store.label_sets.put(PETS)
    other = LabelSet("pets", space_id="another", dim=7, labels=(Label("bird"),))
    stored = store.label_sets.put(other)
    assert store.label_sets.page("", 10) == [stored]
    assert (stored.calibration, stored.templates, stored.min_probability) == (None, (), 0.0)
    with pytest.raises(LabelSetExists, match="'pets' exists"):
        store.label_sets.put(PETS, only_if_absent=True)
    assert store.label_sets.get("pets") == stored


def test_pages_are_those_of_a_dictionary_after_random_puts_and_deletes(store: Store) -> None:
    rng = random.Random(3)
    oracle: dict[str, LabelSet] = {}
    for turn in range(300):
        name = "".join(rng.choices(string.ascii_letters + "._-0", k=rng.randrange(1, 3)))
        if rng.random() < 0.3 and oracle:
            gone = rng.choice(sorted(oracle))
            store.label_sets.delete(gone)
            del oracle[gone]
        else:
            wanted = LabelSet(name, "s", 4, (Label(str(turn)),), min_probability=turn / 300)
            oracle[name] = store.label_sets.put(wanted)
    listed: list[LabelSet] = []
    while page := store.label_sets.page(listed[-1].name if listed else "", 7):
        assert len(page) <= 7
        listed += page
    assert listed == [oracle[name] for name in sorted(oracle)]


def test_none_of_that_name(store: Store) -> None:
    for call in (store.label_sets.get, store.label_sets.delete):
        with pytest.raises(LabelSetNotFound, match="'gone'"):
            call("gone")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": ""}, "name is ''"),
        ({"name": "a/b"}, "name is 'a/b'"),
        ({"name": "x" * 129}, "1 to 128"),
        ({"labels": ()}, "at least 1"),
        ({"labels": (Label("a"), Label("a"))}, "twice"),
        ({"labels": (Label("\ud800"),)}, "surrogate"),
        ({"min_probability": 1.01}, "min_probability is 1.01; the limit is 0 to 1"),
        ({"min_probability": float("nan")}, "min_probability is nan"),
        ({"calibration": Calibration(0.0)}, "temperature is 0.0"),
        ({"calibration": Calibration(float("inf"))}, "temperature is inf"),
        ({"calibration": Calibration(1.0, float("nan"))}, "bias is nan"),
        ({"calibration": Calibration(1.0, ece_after=-0.1)}, "ece_after is -0.1"),
    ],
)
def test_what_put_refuses(store: Store, change: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidLabelSet) as caught:
        store.label_sets.put(replace(PETS, **change))  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert store.label_sets.page("", 10) == []


def test_a_space_has_one_dim(store: Store) -> None:
    store.create_collection("c", space_id="s", dim=5)
    with pytest.raises(WrongSpace, match="dim 5"):
        store.label_sets.put(PETS)


def test_a_damaged_set_is_named_and_the_store_opens(tmp_path: Path) -> None:
    with Store.open(tmp_path, n_threads=1) as store:
        store.label_sets.put(PETS)
        store.label_sets.put(replace(PETS, name="well"))
    with sqlite3.connect(tmp_path / "store.sqlite3") as connection:
        connection.execute("UPDATE label_sets SET labels = '{\"labels\": 7}' WHERE name = 'pets'")
    connection.close()
    with Store.open(tmp_path, n_threads=1) as store:
        with pytest.raises(StoreCorrupt, match="label set 'pets' is damaged"):
            store.label_sets.get("pets")
        assert store.label_sets.get("well").labels == PETS.labels


def test_kill_9_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    last = 0
    for turn in range(3):
        command = [sys.executable, "-c", KILLED, str(tmp_path), str(last)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(2 * (20 + 7 * turn) + turn % 2)]
            process.kill()
            lines += process.stdout.readlines()
        asked = [int(line.split()[1]) for line in lines if line.startswith(b"ask")]
        acknowledged = [int(line.split()[1]) for line in lines if line.startswith(b"ack")]
        with Store.open(tmp_path, n_threads=1) as store:
            sets = [one for one in store.label_sets.page("", 10) if one.name != "once"]
        found = {one.name: int(one.labels[0].name) for one in sets}
        for name, number in found.items():
            newest = max(n for n in acknowledged if f"n{n % 3}" == name)
            assert number in (newest, asked[-1]), f"round {turn}"
        assert set(found) == {"n0", "n1", "n2"}
        last = asked[-1]


def test_prototypes_are_kept_with_their_key_and_never_served_wrong(tmp_path: Path) -> None:
    key, rows = bytes(range(32)), np.arange(8, dtype=np.float32).reshape(2, 4)
    wanted = LabelSet("pets", "s", 4, (Label("cat"), Label("dog")))
    with Store.open(tmp_path) as store:
        stored = store.label_sets.put(wanted)
        assert store.label_sets.prototypes(stored, key) is None
        store.label_sets.keep_prototypes(stored, key, rows)
    with Store.open(tmp_path) as store:
        stored = store.label_sets.get("pets")
        kept = store.label_sets.prototypes(stored, key)
        assert kept is not None
        assert np.array_equal(kept, rows)
        assert store.label_sets.prototypes(stored, bytes(32)) is None  # of other words or templates
    connection = sqlite3.connect(tmp_path / DATABASE_FILE)
    (blob,) = connection.execute("SELECT prototypes FROM label_sets").fetchone()
    damaged = blob[:-1] + bytes([blob[-1] ^ 1])
    connection.execute("UPDATE label_sets SET prototypes = ?", (damaged,))
    connection.commit()
    connection.close()
    with Store.open(tmp_path) as store:
        assert store.label_sets.prototypes(stored, key) is None
        time.sleep(0.002)
        newer = store.label_sets.put(wanted)
        store.label_sets.keep_prototypes(stored, key, rows)  # came too late: the set is another
        assert store.label_sets.prototypes(newer, key) is None
