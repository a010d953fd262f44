"""Write to a store from four threads until killed, printing what was asked and what was acknowledged.

Each line is one JSON array: ["ask", thread, number, operation, ids] before a call and
["ack", thread, number] after it returned. A fifth thread takes snapshots, restores them and swaps aliases.
Beside them an index is built, outgrown, compacted and opened again, every other time in a process apart.
"""

import json
import os
import random
import sys
import threading
from pathlib import Path

import numpy as np

from nearlight.store import Collection, IndexSettings, Point, SetAlias, Store
from nearlight.store.generations import building, keeping, settings

DIM = 16
MIN_ROWS = 64


def say(*words: object) -> None:
    os.write(1, (json.dumps(words) + "\n").encode())  # one call: a whole line, nothing buffered when killed


def work(collection: Collection, thread: int, first: int) -> None:
    rng = random.Random(f"{thread} {first}")
    number = first
    while True:
        number += 1
        ids = [f"{thread}/{rng.randrange(60)}" for _ in range(rng.randrange(1, 8))]  # ids of this thread only
        chance = rng.random()
        if chance < 0.25:
            say("ask", thread, number, "delete", ids)
            collection.delete(ids)
        elif chance < 0.4:
            say("ask", thread, number, "touch", ids)
            collection.set_payload(ids, {"touched": number})
        else:
            say("ask", thread, number, "upsert", ids)
            vectors = np.random.default_rng([thread, number]).standard_normal((len(ids), DIM))
            payload = {"thread": thread, "number": number}
            collection.upsert([Point(i, vector, payload) for i, vector in zip(ids, vectors, strict=True)])
        say("ack", thread, number)


def maintain(store: Store, first: int) -> None:
    turn = first
    while True:
        turn += 1
        snapshot = store.snapshots.create("c").name
        store.snapshots.restore(snapshot, f"restored-{turn}")
        one, other = ("c", f"restored-{turn}") if turn % 2 else (f"restored-{turn}", "c")
        store.update_aliases([SetAlias("left", one), SetAlias("right", other)])
        for info in store.collections():
            if info.name not in ("c", f"restored-{turn}"):
                store.delete_collection(info.name)
        for old in store.snapshots.list():
            if old.name != snapshot:
                store.snapshots.delete(old.name)


def hurry_indexes(here: bool) -> None:
    """Builds an index of few rows and soon again; in this process, or apart."""
    keeping.LOOK_SECONDS, keeping.HEAD_ROWS, keeping.MIN_DEAD = 0.01, 20, 10
    settings.MIN_ROWS = MIN_ROWS
    if here:
        vars(keeping)["run_build"] = lambda order, stop: building.build(order)


def main() -> None:
    first = int(sys.argv[2])
    hurry_indexes(here=first // 1_000_000 % 2 == 0)
    store = Store.open(Path(sys.argv[1]), n_threads=1)
    names = [info.name for info in store.collections()]
    index = IndexSettings(kind="hnsw")
    collection = (
        store.collection("c") if names else store.create_collection("c", space_id="s", dim=DIM, index=index)
    )
    collection.create_payload_index(("number",), "integer")
    threading.Thread(target=maintain, args=(store, first)).start()
    for thread in range(4):
        threading.Thread(target=work, args=(collection, thread, first)).start()


if __name__ == "__main__":
    main()
