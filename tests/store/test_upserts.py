"""Insert only, update only, and no two pictures that look alike: each against a naive model."""

import threading

import numpy as np
import pytest

from nearlight.store import Collection, InvalidQuery, Point, Refusal, Store, Terms

INSERT, UPDATE = Terms("insert"), Terms("update")


def point(point_id: int | str, value: int = 0, look: int | None = None) -> Point:
    return Point(point_id, np.ones(4), {"value": value}, perceptual_hash=look)


def values(collection: Collection) -> dict[int | str, int]:
    return {record.id: record.payload["value"] for record in collection.scroll(limit=1000)[0]}


def test_insert_refuses_ids_that_are_there_and_writes_the_others(collection: Collection) -> None:
    collection.upsert([point(1, 1), point("1", 1)])
    done = collection.upsert_on(INSERT, [point(1, 2), point(2, 2), point("1", 2), point("2", 2)])
    assert done.refused == (Refusal(0, "exists"), Refusal(2, "exists"))
    assert done.seq == collection.info.last_seq
    assert values(collection) == {1: 1, "1": 1, 2: 2, "2": 2}


def test_update_refuses_ids_that_are_not_there(collection: Collection) -> None:
    collection.upsert([point(1, 1)])
    done = collection.upsert_on(UPDATE, [point(2, 2), point(1, 2)])
    assert done.refused == (Refusal(0, "missing"),)
    assert values(collection) == {1: 2}


def test_where_every_point_is_refused_nothing_is_written(collection: Collection) -> None:
    collection.upsert([point(1)])
    last = collection.info.last_seq
    done = collection.upsert_on(INSERT, [point(1, 5)])
    assert (done.seq, done.refused) == (0, (Refusal(0, "exists"),))
    assert collection.info.last_seq == last


def test_of_two_callers_that_insert_one_id_exactly_one_succeeds(collection: Collection) -> None:
    done = []

    def insert(value: int) -> None:
        done.append(collection.upsert_on(INSERT, [point("x", value)]).refused)

    threads = [threading.Thread(target=insert, args=(value,)) for value in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, done)) == [0] + [1] * 15


def test_a_picture_that_is_there_or_comes_earlier_is_refused(collection: Collection) -> None:
    collection.upsert([point("old", look=0b1111), point("plain")])
    terms = Terms(alike_bits=2)
    done = collection.upsert_on(
        terms,
        [
            point("near", look=0b0111),
            point("far", look=0xFF << 32),
            point("near far", look=0xFE << 32),
            point("near near far", look=0xFC << 32),
            point("not a picture"),
            point("old", 7, look=0xFF << 32),  # there already: an update, whatever it shows
        ],
    )
    assert done.refused == (
        Refusal(0, "alike", "old", 1),
        Refusal(2, "alike", "far", 1),
        Refusal(3, "alike", "far", 2),
    )
    assert set(values(collection)) == {"old", "plain", "far", "not a picture"}


@pytest.mark.parametrize("seed", range(5))
def test_pictures_are_refused_as_by_a_naive_model(store: Store, seed: int) -> None:
    """Random upserts and deletes; alike to any live point means refused."""
    rng = np.random.default_rng(seed)
    collection = store.create_collection("a", space_id="m", dim=4)
    live: dict[int | str, int | None] = {}
    centres = [int(x) for x in rng.integers(0, 2**64, 12, dtype=np.uint64)]
    for _ in range(40):
        if rng.random() < 0.3 and live:
            gone = [list(live)[int(i)] for i in rng.integers(0, len(live), 2)]
            collection.delete(gone)
            live = {key: look for key, look in live.items() if key not in gone}
        ids = [int(x) for x in rng.permutation(60)[:5]]
        looks = [centres[int(rng.integers(12))] ^ (1 << int(rng.integers(64))) for _ in ids]
        done = collection.upsert_on(
            Terms(alike_bits=2), [point(i, look=look) for i, look in zip(ids, looks, strict=True)]
        )
        refused, before = [], dict(live)
        for index, (key, look) in enumerate(zip(ids, looks, strict=True)):
            # What is judged is the state before the call, and what the call itself has inserted.
            others = [one for other, one in before.items() if other != key]
            if key not in before and any((look ^ one).bit_count() <= 2 for one in others if one is not None):
                refused.append(index)
                continue
            live[key] = look
            if key not in before:
                before[key] = look
        assert [one.index for one in done.refused] == refused
        assert set(values(collection)) == set(live)


def test_bits_out_of_range_are_refused(collection: Collection) -> None:
    with pytest.raises(InvalidQuery, match="skip_duplicates_bits is 33; it must be 0 to 32"):
        collection.upsert_on(Terms(alike_bits=33), [point(1)])
