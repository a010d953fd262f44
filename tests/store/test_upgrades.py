"""A collection changes its model: nothing is lost, nothing is mixed, every step can be taken back."""

import gc
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearlight.store import (
    Collection,
    CollectionNotFound,
    SpaceChanged,
    Store,
    Target,
    UpgradeNotFound,
    UpgradeRefused,
    WrongSpace,
)
from nearlight.store.filters.conditions import Field, Filter, Keyword
from tests.store.two_models import DIMS, embed, fill, point, target

HOUSE = Path(__file__).resolve().parents[2]
QUERIES = [f"query {i}" for i in range(5)]
Answers = list[list[tuple[Any, float, int]]]


def photos(store: Store, n: int = 40, *, keep: bool = True) -> Collection:
    made = store.create_collection("c", space_id="old", dim=DIMS["old"], keeps_originals=keep)
    made.upsert([point(made, f"p{i}", f"text {i}") for i in range(n)])
    return made


def answers(store: Store) -> Answers:
    """What the collection says now, each answer proven to be wholly of the space it says it is of."""
    collection = store.collection("c")
    space_id = collection.info.space_id
    queries = np.stack([embed(space_id, text) for text in QUERIES])
    found = collection.search(queries, limit=10, with_vectors=True, space_id=space_id)
    for hits in found:
        for hit in hits:
            assert hit.payload is not None
            assert hit.vector is not None
            assert hit.vector.tobytes() == embed(space_id, hit.payload["text"]).tobytes()
    return [[(hit.id, hit.score, hit.seq) for hit in hits] for hits in found]


def brute_force(store: Store, space_id: str) -> list[list[str]]:
    """The oracle: the ten best of all points by the texts of their payloads."""
    records, _ = store.collection("c").scroll(limit=10_000)
    texts = {str(record.id): record.payload["text"] for record in records}
    scores = [
        {key: float(embed(space_id, query) @ embed(space_id, text)) for key, text in texts.items()}
        for query in QUERIES
    ]
    return [sorted(one, key=lambda key: -one[key])[:10] for one in scores]


def ids(found: Answers) -> list[list[str]]:
    return [[str(key) for key, _, _ in hits] for hits in found]


def test_the_whole_way_and_back(store: Store) -> None:
    photos(store)
    before = answers(store)
    upgrade = store.upgrades.start("c", target("new"))
    assert (upgrade.state, upgrade.old.space_id, upgrade.new.space_id) == ("running", "old", "new")
    assert store.upgrades.counts("c").pending == 40
    fill(store, "c", "new", batches=2)
    assert store.upgrades.counts("c").done == 14
    assert answers(store) == before
    with pytest.raises(UpgradeRefused, match="26 of the points of 'c' have no vector of the new model"):
        store.upgrades.promote("c")
    fill(store, "c", "new")
    store.upgrades.set_state("c", "ready")
    comparison = store.upgrades.compare("c", None)
    assert comparison.n_points == 40
    assert comparison.point_overlap is not None
    assert 0 < comparison.point_overlap < 1
    assert store.upgrades.promote("c").state == "promoted"
    promoted = answers(store)
    assert ids(promoted) == brute_force(store, "new") != ids(before)
    assert store.collection("c").verify().problems == []
    assert store.upgrades.roll_back("c").state == "ready"
    assert answers(store) == before
    assert store.collection("c").verify().problems == []
    store.upgrades.promote("c")
    assert answers(store) == promoted
    assert store.upgrades.clean("c").state == "done"
    with pytest.raises(UpgradeRefused, match="is done and cannot be rolled back"):
        store.upgrades.roll_back("c")
    assert answers(store) == promoted
    assert store.collection("c").info.other_space_id == ""


def test_answers_survive_a_restart_at_every_step(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        photos(store)
        old = answers(store)
        store.upgrades.start("c", target("new"))
        fill(store, "c", "new", batches=3)
    with Store.open(tmp_path) as store:
        assert (answers(store), store.upgrades.get("c").state) == (old, "running")
        assert store.upgrades.counts("c").done == 21
        fill(store, "c", "new")
        store.upgrades.promote("c")
        new = answers(store)
    with Store.open(tmp_path) as store:
        assert (answers(store), store.upgrades.get("c").state) == (new, "promoted")
        store.upgrades.roll_back("c")
        assert answers(store) == old
    with Store.open(tmp_path) as store:
        assert answers(store) == old
        store.upgrades.cancel("c")
    with Store.open(tmp_path) as store:
        assert (answers(store), store.upgrades.get("c").state) == (old, "cancelled")
        assert store.collection("c").verify().problems == []


def test_writes_meanwhile_are_in_both_spaces(store: Store) -> None:
    collection = photos(store)
    collection.create_payload_index(("text",), "keyword")
    store.upgrades.start("c", target("new"))
    fill(store, "c", "new", batches=2)
    collection.upsert([point(collection, "p3", "text 3, changed"), point(collection, "q", "a new one")])
    collection.delete(["p5", "p39"])
    collection.set_payload(["p7"], {"extra": 1})
    fill(store, "c", "new")
    store.upgrades.promote("c")
    promoted = store.collection("c")
    assert ids(answers(store)) == brute_force(store, "new")
    assert promoted.count() == 39
    assert promoted.verify().problems == []
    # And after: the old space follows, for the way back.
    promoted.upsert([point(promoted, "p4", "text 4, changed"), point(promoted, "r", "a late one")])
    promoted.delete(Filter(must=(Field(("text",), Keyword("text 9")),)))
    promoted.set_payload(["q"], {"extra": 2})
    store.upgrades.roll_back("c")
    back = store.collection("c")
    assert ids(answers(store)) == brute_force(store, "old")
    assert back.count() == 39
    assert back.verify().problems == []


def test_a_search_that_has_begun_ends_in_its_space(store: Store) -> None:
    begun = photos(store)
    store.upgrades.start("c", target("new"))
    fill(store, "c", "new")
    store.upgrades.promote("c")
    now = store.collection("c")
    now.delete(["p1"])
    now.upsert([point(now, "p2", "two, changed"), point(now, "only new", "x", both=False)])
    queries = np.stack([embed("old", text) for text in QUERIES])
    for hits in begun.search(queries, limit=40, with_vectors=True):
        assert len(hits) == 39
        for hit in hits:
            assert hit.payload is not None
            assert hit.vector is not None
            assert hit.vector.tobytes() == embed("old", hit.payload["text"]).tobytes()
    everything = Filter(must_not=(Field(("text",), Keyword("none")),))
    [hits], _ = begun.search_matching(queries[:1], everything, limit=50)
    assert {hit.id for hit in hits} == {f"p{i}" for i in range(40)} - {"p1"}
    with pytest.raises(SpaceChanged):
        begun.upsert([point(begun, "late", "late")])
    with pytest.raises(SpaceChanged):
        begun.set_payload(["p3"], {"a": 1})
    with pytest.raises(SpaceChanged):
        begun.get(["only new"], with_vectors=True)
    with pytest.raises(SpaceChanged):
        begun.verify()
    with pytest.raises(WrongSpace):
        now.search(queries, limit=1, space_id="old")
    assert begun.delete(["p3"]) == 1  # a delete knows no space
    assert [one.id for one in now.get(["p3", "late", "p4"])] == ["p4"]
    assert now.verify().problems == []


def test_points_without_a_source_are_listed_and_left_out_only_when_asked(store: Store) -> None:
    begun = photos(store, 10, keep=False)
    before = answers(store)
    store.upgrades.start("c", target("new"))
    assert store.upgrades.counts("c").wanted == 10
    found = store.upgrades.wanted("c", 0, 4)
    assert [one.id for one in found] == ["p0", "p1", "p2", "p3"]
    rest = store.upgrades.wanted("c", found[-1].seq, 100)
    assert [one.id for one in rest] == [f"p{i}" for i in range(4, 10)]
    store.upgrades.write("c", {}, {one.seq: "the file is gone" for one in found})
    fill(store, "c", "new")
    counts = store.upgrades.counts("c")
    assert (counts.total, counts.done, counts.failed, counts.wanted) == (10, 6, 4, 0)
    failed = store.upgrades.failures("c", 0, 3) + store.upgrades.failures("c", found[2].seq, 3)
    assert [(one.id, one.message) for one in failed] == [(f"p{i}", "the file is gone") for i in range(4)]
    with pytest.raises(UpgradeRefused, match="4 of the points"):
        store.upgrades.promote("c")
    store.upgrades.promote("c", drop_missing=True)
    now = store.collection("c")
    assert (now.count(), store.upgrades.counts("c").left_out) == (6, 4)
    [hits] = begun.search([embed("old", "query")], limit=10)  # a search that began before
    assert {hit.id for hit in hits} == {f"p{i}" for i in range(4, 10)}
    assert [record.id for record in now.scroll()[0]] == [f"p{i}" for i in range(4, 10)]
    assert now.verify().problems == []
    store.upgrades.roll_back("c")
    assert answers(store) == before
    assert store.collection("c").verify().problems == []
    assert store.collection("c").count() == 10


def test_what_was_left_out_stays_deleted_or_replaced(store: Store) -> None:
    photos(store, 10, keep=False).create_payload_index(("text",), "keyword")
    store.upgrades.start("c", target("new"))
    store.upgrades.write("c", {}, {one.seq: "gone" for one in store.upgrades.wanted("c", 0, 4)})
    fill(store, "c", "new")
    store.upgrades.promote("c", drop_missing=True)
    now = store.collection("c")
    assert now.delete(["p0"]) == 0
    assert now.delete(Filter(must=(Field(("text",), Keyword("text 1")),))) == 0
    now.upsert([point(now, "p2", "two, anew")])
    store.upgrades.roll_back("c")
    back = store.collection("c")
    assert {record.id for record in back.scroll()[0]} == {f"p{i}" for i in range(2, 10)}
    assert ids(answers(store)) == brute_force(store, "old")
    assert back.verify().problems == []


def test_a_rollback_needs_the_old_vectors_of_what_came_since(store: Store) -> None:
    photos(store, 10)
    store.upgrades.start("c", target("new"))
    fill(store, "c", "new")
    store.upgrades.promote("c")
    now = store.collection("c")
    now.upsert([point(now, "new only", "x", both=False)])
    with pytest.raises(UpgradeRefused, match="1 of the points of 'c' have no vector of the old model"):
        store.upgrades.roll_back("c")
    assert store.collection("c").count() == 11
    store.upgrades.roll_back("c", drop_missing=True)
    assert store.collection("c").count() == 10
    store.upgrades.promote("c")
    assert store.collection("c").count() == 11
    assert ids(answers(store)) == brute_force(store, "new")


def test_cleaning_gives_the_disk_back_and_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "store.sqlite3"
    wide = np.random.default_rng(0).standard_normal((2500, 512)).astype(np.float32)
    with Store.open(tmp_path) as store:
        made = store.create_collection("c", space_id="old", dim=512)
        made.upsert([_wide_point(i, wide) for i in range(2500)])
        store.upgrades.start("c", Target("new", 512))
        seqs = [one.seq for one in store.upgrades.wanted("c", 0, 10_000)]
        half = dict(zip(seqs[:1000], wide[:1000], strict=True))
        store.upgrades.write("c", half, {})
        store.upgrades.cancel("c")
        assert _vectors_left(store, "new") == 0
        store.upgrades.start("c", Target("new", 512))
        assert store.upgrades.counts("c").done == 0
        store.upgrades.write("c", dict(zip(seqs[1:], wide[1:], strict=True)), {})
        store.upgrades.promote("c", drop_missing=True)
        store._writer.run(lambda one: one.connection, lambda _: None)
    both_bytes = file.stat().st_size
    with Store.open(tmp_path) as store:
        store.upgrades.clean("c")
        assert _vectors_left(store, "old") == 0
        with store._readers.snapshot() as connection:
            assert connection.execute("SELECT count(*) FROM points").fetchone() == (2499,)
            assert connection.execute("SELECT cursor FROM jobs WHERE state = 'done'").fetchone() == (None,)
        assert store.collection("c").verify(50).problems == []
    assert file.stat().st_size < both_bytes - 2500 * 512 * 4 * 0.8


def _wide_point(i: int, wide: Any) -> Any:
    from nearlight.store import Point

    return Point(i, wide[i], {})


def _vectors_left(store: Store, space_id: str) -> int:
    """Vectors of a space, once the background cleaning has come to rest."""
    statement = "SELECT count(*) FROM vectors JOIN spaces USING (space_no) WHERE space_id = ?"
    until = time.monotonic() + 20
    while True:
        with store._readers.snapshot() as connection:
            (n,) = connection.execute(statement, (space_id,)).fetchone()
            (cleaning,) = connection.execute("SELECT count(*) FROM jobs WHERE cursor NOT NULL").fetchone()
        if not cleaning or time.monotonic() > until:
            return int(n)
        time.sleep(0.02)


def test_what_is_not_allowed_is_refused(store: Store) -> None:
    photos(store, 5)
    upgrades = store.upgrades
    with pytest.raises(UpgradeNotFound, match="'c' has no upgrade"):
        upgrades.get("c")
    with pytest.raises(UpgradeNotFound):
        upgrades.promote("c")
    with pytest.raises(CollectionNotFound):
        upgrades.start("nobody", target("new"))
    with pytest.raises(UpgradeRefused, match="is of space 'old' already"):
        upgrades.start("c", target("old"))
    store.create_collection("other", space_id="wide", dim=3)
    with pytest.raises(WrongSpace, match="has dim 3"):
        upgrades.start("c", Target("wide", 4))
    upgrades.start("c", target("new"))
    with pytest.raises(UpgradeRefused, match="an upgrade of collection 'c' to space new is running"):
        upgrades.start("c", Target("third", 4))
    with pytest.raises(UpgradeRefused, match="running and cannot be rolled back"):
        upgrades.roll_back("c")
    with pytest.raises(UpgradeRefused, match="running and cannot be done"):
        upgrades.clean("c")
    fill(store, "c", "new")
    upgrades.promote("c")
    with pytest.raises(UpgradeRefused, match="promoted and cannot be written to"):
        upgrades.write("c", {1: embed("new", "x")}, {})
    with pytest.raises(UpgradeRefused, match="promoted and cannot be cancelled"):
        upgrades.cancel("c")
    upgrades.clean("c")
    assert upgrades.start("c", target("old")).new.space_id == "old"  # and back by a new upgrade
    fill(store, "c", "old")
    upgrades.promote("c")
    assert ids(answers(store)) == brute_force(store, "old")


def test_starting_again_goes_on_and_lets_failures_try_again(store: Store) -> None:
    photos(store, 6)
    first = store.upgrades.start("c", target("new"))
    fill(store, "c", "new", limit=2, batches=1)
    [one, *_] = store.upgrades.pending("c", 0, 1)
    store.upgrades.write("c", {}, {one.seq: "unreadable"})
    store.upgrades.set_state("c", "failed", "the model was unloaded")
    again = store.upgrades.start("c", target("new"))
    assert (again.job_no, again.state, again.message) == (first.job_no, "running", "")
    counts = store.upgrades.counts("c")
    assert (counts.done, counts.failed, counts.pending) == (2, 0, 4)


def test_a_vector_of_a_point_that_is_gone_is_not_kept(store: Store) -> None:
    collection = photos(store, 3)
    store.upgrades.start("c", target("new"))
    found = store.upgrades.pending("c", 0, 10)
    collection.delete(["p0"])
    collection.upsert([point(collection, "p1", "one, changed", both=False)])
    vectors = {one.seq: embed("new", str(one.original)) for one in found}
    assert store.upgrades.write("c", vectors, {found[0].seq: "unreadable"}) == 1
    counts = store.upgrades.counts("c")
    assert (counts.total, counts.done, counts.failed, counts.pending) == (2, 1, 0, 1)
    assert [one.original for one in store.upgrades.pending("c", 0, 10)] == ["one, changed"]


def test_deleting_the_collection_ends_the_upgrade_and_leaves_nothing(store: Store) -> None:
    photos(store, 8, keep=False)
    store.upgrades.start("c", target("new"))
    store.upgrades.write("c", {}, {one.seq: "gone" for one in store.upgrades.wanted("c", 0, 3)})
    fill(store, "c", "new")
    store.upgrades.promote("c", drop_missing=True)
    old = store.upgrades._spaces._others.get(1)
    store.delete_collection("c")
    with pytest.raises(CollectionNotFound):
        store.upgrades.roll_back("c")
    assert old is None
    until = time.monotonic() + 20
    tables = ("points", "vectors", "jobs", "upgrade_failures", "images")
    while time.monotonic() < until:
        with store._readers.snapshot() as connection:
            left = [
                connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
                for table in tables
            ]
        if not any(left):
            break
        time.sleep(0.02)
    assert left == [0] * 5


def test_the_memory_of_the_other_space_is_given_back(store: Store) -> None:
    photos(store, 5)
    store.upgrades.start("c", target("new"))
    fill(store, "c", "new")
    store.upgrades.promote("c")
    family = store.collection("c")._family
    store.upgrades.clean("c")
    gc.collect()
    assert len(family.handles) == 1


def test_a_snapshot_keeps_the_setting_and_the_originals(store: Store) -> None:
    photos(store, 4)
    made = store.snapshots.create("c")
    store.snapshots.restore(made.name, "then")
    assert store.collection("then").info.keeps_originals
    store.upgrades.start("then", target("new"))
    assert {one.original for one in store.upgrades.pending("then", 0, 9)} == {f"text {i}" for i in range(4)}


def test_originals_are_images_or_texts(store: Store) -> None:
    from nearlight.store import Point

    made = store.create_collection("c", space_id="old", dim=16, keeps_originals=True)
    image = bytes(range(256))
    made.upsert(
        [
            Point("image", embed("old", "i"), {}, original=image),
            Point("text", embed("old", "t"), {}, original="größer"),
            Point("neither", embed("old", "n"), {}),
        ]
    )
    store.upgrades.start("c", target("new"))
    assert [one.original for one in store.upgrades.pending("c", 0, 9)] == [image, "größer"]
    assert [one.id for one in store.upgrades.wanted("c", 0, 9)] == ["neither"]
    made.upsert([Point("image", embed("old", "i"), {})])
    assert [one.original for one in store.upgrades.pending("c", 0, 9)] == ["größer"]


def test_searches_while_it_goes_back_and_forth(store: Store) -> None:
    """Each answer is of one space, whatever switches and is written meanwhile; none fails."""
    photos(store, 200)
    store.upgrades.start("c", target("new"))
    fill(store, "c", "new", limit=100)
    stop, wrong, spaces = threading.Event(), list[BaseException](), set[str]()

    def search() -> None:
        while not stop.is_set():
            try:
                answers(store)
                spaces.add(store.collection("c").info.space_id)
            except BaseException as error:
                wrong.append(error)
                return

    def write() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            handle = store.collection("c")
            try:
                handle.upsert([point(handle, f"w{turn % 30}", f"written {turn}")])
                handle.delete([f"w{(turn + 15) % 30}", f"p{turn % 200}"])
            except SpaceChanged:
                continue
            except BaseException as error:
                wrong.append(error)
                return

    threads = [threading.Thread(target=work) for work in (search, search, write)]
    for thread in threads:
        thread.start()
    for _ in range(8):
        store.upgrades.promote("c")
        store.upgrades.roll_back("c")
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert spaces == {"old", "new"}
    assert store.collection("c").verify().problems == []
    assert ids(answers(store)) == brute_force(store, "old")


@pytest.mark.parametrize(("moment", "space_id"), [("before", "old"), ("after", "new")])
def test_kill_9_around_the_commit_of_a_promotion(tmp_path: Path, moment: str, space_id: str) -> None:
    command = [sys.executable, "-m", "tests.store.dies_promoting", str(tmp_path), moment]
    assert subprocess.run(command, cwd=HOUSE, check=False).returncode == -9
    with Store.open(tmp_path) as store:
        assert store.collection("c").info.space_id == space_id
        assert store.upgrades.get("c").state == ("running" if moment == "before" else "promoted")
        assert ids(answers(store)) == brute_force(store, space_id)
        assert store.collection("c").verify().problems == []
        if moment == "before":
            store.upgrades.promote("c")
        assert ids(answers(store)) == brute_force(store, "new")
        store.upgrades.roll_back("c")
        assert ids(answers(store)) == brute_force(store, "old")
