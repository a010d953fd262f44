"""Write to a collection from three threads while it is upgraded to and fro, until killed.

Each line is one JSON array: ["ask", thread, number, operation, ids] before a call and ["ack", thread, number]
after it returned; of the upgrade ["move", step] before a step and ["moved", step, space] after it; and
["wrong", text] where a search was not wholly of one space.
"""

import json
import os
import random
import sys
import threading
from pathlib import Path

from nearlight.store import SpaceChanged, Store, UpgradeNotFound, UpgradeRefused
from tests.store.two_models import DIMS, embed, fill, point, target


def say(*words: object) -> None:
    os.write(1, (json.dumps(words) + "\n").encode())  # one call: a whole line, nothing buffered when killed


def work(store: Store, thread: int, first: int) -> None:
    rng = random.Random(f"{thread} {first}")
    number = first
    while True:
        number += 1
        ids = [f"{thread}/{rng.randrange(25)}" for _ in range(rng.randrange(1, 5))]  # ids of this thread only
        chance = rng.random()
        operation = "delete" if chance < 0.3 else "touch" if chance < 0.4 else "upsert"
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


def search(store: Store) -> None:
    while True:
        collection = store.collection("c")
        space_id = collection.info.space_id
        try:
            [hits] = collection.search([embed(space_id, "query")], limit=20, with_vectors=True)
        except Exception as error:
            say("wrong", repr(error))
            raise
        for hit in hits:
            text = (hit.payload or {})["text"]
            if hit.vector is None or hit.vector.tobytes() != embed(space_id, text).tobytes():
                say("wrong", f"{text} is not of space {space_id}")


def main() -> None:
    store = Store.open(Path(sys.argv[1]), n_threads=1)
    first = int(sys.argv[2])
    if not store.collections():
        store.create_collection("c", space_id="old", dim=DIMS["old"], keeps_originals=True)
    threading.Thread(target=move, args=(store, first)).start()
    for thread in range(3):
        threading.Thread(target=work, args=(store, thread, first)).start()
    search(store)


if __name__ == "__main__":
    main()
