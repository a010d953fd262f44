"""Write to a store in every way at once until killed, printing what was asked and what was acknowledged.

Each line is one JSON array: ["ask", thread, number, operation, ids] before a call and ["ack", thread, number]
after it returned; ["move", step] before a step of an upgrade and ["moved", step, space] after it; and
["wrong", text] where a thread failed, or a search was not wholly of one space.

Three threads upsert, delete and touch. Beside them one takes snapshots, restores them and swaps aliases, one
searches, and two times out of four one upgrades the collection to and fro; an index is built, outgrown,
compacted and opened again, every other time in a process apart.

The program reads lines of [folder, number of the first call] and does each in a process of its own, forked:
to import everything anew would take longer than all the rest. It says ["began", process], and when that is
gone ["ended", status].
"""

import json
import os
import random
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nearlight.store import (
    IndexSettings,
    SetAlias,
    SpaceChanged,
    Store,
    Terms,
    UpgradeNotFound,
    UpgradeRefused,
    checked_block,
)
from nearlight.store.generations import building, keeping, settings
from tests.store.two_models import DIMS, embed, fill, point, target

THREADS = 3
MIN_ROWS = 64


def say(*words: object) -> None:
    os.write(1, (json.dumps(words) + "\n").encode())  # one call: a whole line, nothing buffered when killed


def work(store: Store, thread: int, first: int) -> None:
    rng = random.Random(f"{thread} {first}")
    number = first
    while True:
        number += 1
        ids = [f"{thread}/{rng.randrange(60)}" for _ in range(rng.randrange(1, 8))]  # ids of this thread only
        chance = rng.random()
        operation = "delete" if chance < 0.25 else "touch" if chance < 0.4 else "upsert"
        say("ask", thread, number, operation, ids)
        while not done(store, operation, ids, f"{thread}/{number}", rng):
            continue
        say("ack", thread, number)


def done(store: Store, operation: str, ids: list[str], text: str, rng: random.Random) -> bool:
    """One try of a call; False where the collection changed its model under it."""
    collection = store.collection("c")
    try:
        if operation == "delete":
            collection.delete(ids)
        elif operation == "touch":
            collection.set_payload(ids, {"touched": text})
        elif rng.random() < 0.1:
            rows = np.stack([embed(collection.info.space_id, f"{text}/{key}") for key in ids])  # (N, D)
            payloads = [json.dumps({"text": f"{text}/{key}"}) for key in ids]
            collection.upsert_on(Terms(), checked_block(ids, rows, payloads)[0])
        else:
            both, keep = rng.random() < 0.95, rng.random() < 0.7
            collection.upsert([point(collection, key, f"{text}/{key}", both=both, keep=keep) for key in ids])
    except SpaceChanged:
        return False
    return True


def move(store: Store, first: int) -> None:
    rng = random.Random(first)
    while True:
        step = next_step(store, rng)
        if step == "fill":
            fill(store, "c", store.upgrades.get("c").new.space_id, limit=10, batches=3)
            continue
        say("move", step)
        try:
            if step == "start":
                space_id = store.collection("c").info.space_id
                store.upgrades.start("c", target("new" if space_id == "old" else "old"))
            else:
                getattr(store.upgrades, step)("c")
        except UpgradeRefused:  # points came in without a vector of the space: fill, or clean
            if step == "roll_back":
                say("move", "clean")
                store.upgrades.clean("c")
        say("moved", step, store.collection("c").info.space_id)


def next_step(store: Store, rng: random.Random) -> str:
    try:
        state = store.upgrades.get("c").state
    except UpgradeNotFound:
        return "start"
    if state in ("cancelled", "done"):
        return "start"
    if state == "promoted":
        return rng.choice(["roll_back", "clean"])
    counts = store.upgrades.counts("c")
    if counts.done < counts.total:
        return "fill"
    return rng.choice(["promote", "promote", "promote", "cancel"])


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


def search(store: Store, first: int) -> None:
    while True:
        collection = store.collection("c")
        space_id = collection.info.space_id
        [hits] = collection.search([embed(space_id, f"query {first}")], limit=20, with_vectors=True)
        for hit in hits:
            text = (hit.payload or {})["text"]
            if hit.vector is None or hit.vector.tobytes() != embed(space_id, text).tobytes():
                say("wrong", f"{text} is not of space {space_id}")


def hurry_indexes(here: bool) -> None:
    """Builds an index of few rows and soon again; in this process, or apart."""
    keeping.LOOK_SECONDS, keeping.HEAD_ROWS, keeping.MIN_DEAD = 0.01, 20, 10
    settings.MIN_ROWS = MIN_ROWS
    if here:
        vars(keeping)["run_build"] = lambda order, stop: building.build(order)


def run(folder: Path, first: int) -> None:
    """Begins everything; ends by being killed."""
    hurry_indexes(here=first // 1_000_000 % 2 == 0)
    store = Store.open(folder, n_threads=1)
    if not store.collections():
        index = IndexSettings(kind="hnsw")
        store.create_collection("c", space_id="old", dim=DIMS["old"], index=index, keeps_originals=True)
    store.collection("c").create_payload_index(("text",), "keyword")

    def begin(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            say("wrong", "".join(traceback.format_exception(error)))

    jobs: list[Callable[[], None]] = [
        *(lambda thread=thread: work(store, thread, first) for thread in range(THREADS)),
        lambda: maintain(store, first),
    ]
    if first // 1_000_000 % 4 < 2:  # each step makes indexes useless: let some be built, too
        jobs.append(lambda: move(store, first))
    for job in jobs:
        threading.Thread(target=begin, args=(job,)).start()
    begin(
        lambda: search(store, first)
    )  # here, for an interpreter whose main thread has ended starts no others


def main() -> None:
    for line in sys.stdin:
        folder, first = json.loads(line)
        process = os.fork()
        if not process:
            sys.stdin.close()
            run(Path(folder), first)
            return
        say("began", process)
        say("ended", os.waitpid(process, 0)[1])


if __name__ == "__main__":
    main()
