"""What both clients promise, each promise tested on both."""

import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from nearlight.client import (
    AlreadyExists,
    InvalidInput,
    ItemsFailed,
    Limits,
    MessageTooLarge,
    NotFound,
    NotReady,
    Overloaded,
    Point,
    RetryPolicy,
    TooLate,
    Unsupported,
)
from nearlight.v1.input_pb2 import BatchError

SMALL = Limits(max_message_bytes=1_000_000, max_batch_inputs=5)


def image_point(i: int, image: bytes = b"image") -> Point:
    return Point(id=f"p{i:03}", image=image, payload={"i": i})


# ---- lists


@pytest.mark.parametrize("fake", [SMALL], indirect=True)
def test_embed_splits_a_list_and_joins_it_in_order(client: Any, fake: Any) -> None:
    texts = ["x" * (i + 1) for i in range(17)]
    result = client.embed(texts)
    assert result.vectors[:, 0].tolist() == [len(text) for text in texts]
    assert [len(r.inputs) for r in fake.script.requests("Embed")].count(5) == 3
    assert result.vectors.dtype == np.float32
    assert (result.model, result.space_id, result.errors) == ("a", "s", ())


@pytest.mark.parametrize("fake", [Limits(max_message_bytes=1_000_000, max_batch_inputs=64)], indirect=True)
def test_messages_stay_under_the_advertised_limit(client: Any, fake: Any) -> None:
    images = [b"i" * 400_000] * 7  # 2.8 MB against a limit of 1 MB, which this server enforces
    assert client.embed(images).require().shape == (7, 4)
    assert max(r.ByteSize() for r in fake.script.requests("Embed")) <= 1_000_000


@pytest.mark.parametrize("fake", [Limits(max_message_bytes=1_000_000, max_batch_inputs=64)], indirect=True)
def test_an_item_no_message_can_hold_fails_alone(client: Any) -> None:
    result = client.embed(["a", b"i" * 2_000_000, "b"])
    assert [error.index for error in result.errors] == [1]
    assert "2000" in result.errors[0].message
    assert "limit" in result.errors[0].message
    assert np.isnan(result.vectors[1]).all()
    assert not np.isnan(result.vectors[[0, 2]]).any()


@pytest.mark.parametrize("fake", [SMALL], indirect=True)
def test_bad_inputs_fail_alone_with_their_index(client: Any, tmp_path: Path) -> None:
    (tmp_path / "real.jpg").write_bytes(b"jpeg")
    inputs = ["good", b"bad", tmp_path / "missing.jpg", "\ud800", tmp_path / "real.jpg", "e", "f", b"bad"]
    result = client.embed(inputs)
    assert [error.index for error in result.errors] == [1, 2, 3, 7]
    assert [bool(np.isnan(row).any()) for row in result.vectors] == [i in (1, 2, 3, 7) for i in range(8)]
    assert "missing.jpg" in result.errors[1].message
    assert "Unicode" in result.errors[2].message
    with pytest.raises(ItemsFailed, match="4 of 8") as raised:
        result.require()
    assert raised.value.errors == result.errors


def test_embed_of_nothing_is_nothing(client: Any) -> None:
    assert client.embed([]).vectors.shape == (0, 0)


@pytest.mark.parametrize("fake", [SMALL], indirect=True)
def test_classify_joins_results_and_errors(client: Any) -> None:
    results = client.classify([b"i" * (i + 4) for i in range(6)] + [b"bad"], labels=["cat", "dog"], top_k=1)
    assert [r.labels[0].label for r in results[:6]] == ["cat", "dog"] * 3
    assert results[6].labels == ()
    assert results[6].error is not None
    assert results[6].error.index == 6


def test_classify_needs_labels_or_a_set(client: Any) -> None:
    with pytest.raises(InvalidInput, match="labels and label_set"):
        client.classify([b"i"])
    with pytest.raises(InvalidInput, match="one string"):
        client.classify([b"i"], labels="cat,dog")


@pytest.mark.parametrize("fake", [SMALL], indirect=True)
def test_upsert_splits_and_counts_errors_from_the_start(client: Any, fake: Any) -> None:
    points = [image_point(i, b"bad" if i == 8 else b"image") for i in range(12)]
    points[3] = Point(id="x" * 513, text="too long an id")
    result = client.upsert("c", points)
    assert result.upserted == 10
    assert [error.index for error in result.errors] == [3, 8]
    assert "513" in result.errors[0].message
    assert "512" in result.errors[0].message
    assert len(fake.script.points) == 10


def test_delete_get_count(client: Any) -> None:
    client.upsert("c", [Point(id=i, vector=[1, 0, 0, i], payload={"big": 2**63 + i}) for i in range(1, 8)])
    records = client.get("c", [7, 1, 99, 3], with_vectors=True)  # the server answers two ids at a time
    assert [record.id for record in records] == [7, 1, 3]
    assert records[0].payload == {"big": 2**63 + 7}
    assert records[0].vector.tolist() == [1, 0, 0, 7]
    assert client.delete("c", [1, 2, 99]) == 2
    assert client.count("c") == 5


def test_scroll_goes_through_all_pages(client: Any, fake: Any) -> None:
    client.upsert("c", [image_point(i) for i in range(7)])
    assert [record.payload["i"] for record in client.scroll("c", page_size=3)] == list(range(7))
    assert len(fake.script.requests("Scroll")) == 3


def test_query_asks_for_the_rest_of_a_cut_reply(client: Any, fake: Any) -> None:
    client.upsert("c", [image_point(i) for i in range(20)])
    result = client.query("c", text="a dog", limit=8, offset=1, score_threshold=0.25, with_payload=["i"])
    assert [hit.payload["i"] for hit in result] == list(range(1, 9))
    assert result.info.exact
    first = fake.script.requests("Query")[0]
    assert (first.query.text, first.score_threshold, list(first.with_payload.include.keys)) == (
        "a dog",
        0.25,
        ["i"],
    )


def test_query_for_one_thing_only(client: Any) -> None:
    with pytest.raises(InvalidInput, match="exactly one"):
        client.query("c", text="a", id=7)
    with pytest.raises(InvalidInput, match="limit is -1"):
        client.query("c", text="a", limit=-1)


def test_collections(client: Any) -> None:
    made = client.create_collection("b", space=("own", 7), metadata={"é": 1})
    assert (made.name, made.dim, made.metadata) == ("b", 7, {"é": 1})
    client.create_collection("a")
    with pytest.raises(AlreadyExists, match="'a'"):
        client.create_collection("a")
    assert client.create_collection("a", exist_ok=True).name == "a"
    assert [one.name for one in client.collections()] == ["a", "b"]
    client.delete_collection("a")
    with pytest.raises(NotFound, match="'a'"):
        client.collection("a")


def test_models(client: Any) -> None:
    assert [model.name for model in client.models()] == ["a", "b"]
    assert client.model().towers == ()
    assert client.model("z").state == "ready"


# ---- retries, deadlines, errors


def test_unavailable_is_tried_again(client: Any, fake: Any) -> None:
    fake.script.fail("Count", grpc.StatusCode.UNAVAILABLE, times=3)
    assert client.count("c") == 0
    assert len(fake.script.requests("Count")) == 4


def test_it_gives_up_after_max_attempts(client: Any, fake: Any) -> None:
    fake.script.fail("Count", grpc.StatusCode.UNAVAILABLE, "loading", times=9)
    with pytest.raises(NotReady, match="loading"):
        client.count("c")
    assert len(fake.script.requests("Count")) == 4


def test_overload_waits_as_long_as_the_server_asks(client: Any, fake: Any) -> None:
    fake.script.fail("Count", grpc.StatusCode.RESOURCE_EXHAUSTED, "full", retry_ms=300)
    started = time.monotonic()
    assert client.count("c") == 0
    assert time.monotonic() - started >= 0.3


def test_overload_beyond_the_deadline_is_reported_at_once(connect: Any, fake: Any) -> None:
    fake.script.fail("Count", grpc.StatusCode.RESOURCE_EXHAUSTED, "full", retry_ms=60_000)
    with pytest.raises(Overloaded) as raised:
        connect(timeout=5.0).count("c")
    assert raised.value.retry_after_seconds == 60
    assert len(fake.script.requests("Count")) == 1


@pytest.mark.parametrize("fake", [Limits(max_message_bytes=100_000)], indirect=True)
def test_a_message_over_the_limit_is_not_tried_again(client: Any, fake: Any) -> None:
    with pytest.raises(MessageTooLarge, match="larger than max"):
        client.embed([b"i" * 200_000])  # a single input: nothing to split, no limits asked
    assert fake.script.requests("Embed") == []


@pytest.mark.parametrize(
    ("code", "error"),
    [(grpc.StatusCode.INVALID_ARGUMENT, InvalidInput), (grpc.StatusCode.UNIMPLEMENTED, Unsupported)],
)
def test_other_errors_are_not_tried_again(client: Any, fake: Any, code: Any, error: Any) -> None:
    fake.script.fail("Count", code, "filter: not built", times=9)
    with pytest.raises(error, match="filter: not built"):
        client.count("c")
    assert len(fake.script.requests("Count")) == 1


def test_creating_is_not_tried_again_when_its_fate_is_unknown(client: Any, fake: Any) -> None:
    fake.script.fail("CreateCollection", grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(NotReady):
        client.create_collection("c")
    assert len(fake.script.requests("CreateCollection")) == 1


def test_deadline(client: Any, fake: Any) -> None:
    fake.script.fail("Count", grpc.StatusCode.UNAVAILABLE, times=9)
    with pytest.raises((TooLate, NotReady)):
        client.count("c", timeout=0.002)


def test_token_goes_with_every_call(connect: Any, fake: Any) -> None:
    client = connect(token="secret")
    client.count("c")
    list(client.upsert_stream("c", [image_point(0)]))
    assert {entry["authorization"] for entry in fake.script.metadata} == {"Bearer secret"}


def test_limits_are_asked_once_and_assumed_where_the_server_has_none(client: Any, fake: Any) -> None:
    fake.script.fail("ListModels", grpc.StatusCode.UNIMPLEMENTED)
    client.embed(["a", "b"])
    client.embed(["a", "b"])
    assert len(fake.script.requests("ListModels")) == 1


# ---- streams


@pytest.mark.parametrize("fake", [Limits(max_batch_inputs=64)], indirect=True)
def test_upsert_stream_acknowledges_in_order(client: Any, fake: Any) -> None:
    points = (image_point(i, b"bad" if i == 21 else b"image") for i in range(50))
    acks = list(client.upsert_stream("c", points, batch_size=4, in_flight=3))
    assert [ack.first_index for ack in acks] == list(range(0, 50, 4))
    assert [point_id for ack in acks for point_id in ack.ids] == [f"p{i:03}" for i in range(50)]
    assert sum(ack.upserted for ack in acks) == 49
    assert [error.index for ack in acks for error in ack.errors] == [21]
    assert fake.script.most_in_flight <= 3


def test_stream_reads_its_items_only_so_far_ahead(client: Any) -> None:
    taken = []

    def points() -> Any:
        for i in range(1000):
            taken.append(i)
            yield image_point(i)

    answers = client.upsert_stream("c", points(), batch_size=4, in_flight=2)
    next(answers)
    assert len(taken) <= 4 * 2 + 4
    answers.close()


def test_stream_puts_unsendable_items_at_their_place(client: Any, tmp_path: Path) -> None:
    points = [image_point(i) for i in range(9)]
    points[0] = Point(id="p000", image=tmp_path / "gone.jpg")
    for i in (4, 5, 6, 7):  # a whole batch that is never sent
        points[i] = Point(id=f"p{i:03}", text="\udfff")
    acks = list(client.upsert_stream("c", points, batch_size=4, in_flight=2))
    assert [ack.first_index for ack in acks] == [0, 4, 8]
    assert [ack.upserted for ack in acks] == [3, 0, 1]
    assert [error.index for ack in acks for error in ack.errors] == [0, 4, 5, 6, 7]


def test_stream_of_unsendable_items_only(client: Any) -> None:
    acks = list(client.upsert_stream("c", [Point(id="", text="t")] * 3, batch_size=1, in_flight=1))
    assert [len(ack.errors) for ack in acks] == [1, 1, 1]


def test_stream_of_nothing(client: Any) -> None:
    assert list(client.upsert_stream("c", [])) == []


def test_broken_stream_is_made_anew_and_loses_nothing(client: Any, fake: Any) -> None:
    fake.script.break_stream_after += [2, 0, 3]
    points = (image_point(i) for i in range(40))
    acks = list(client.upsert_stream("c", points, batch_size=4, in_flight=3))
    assert [ack.first_index for ack in acks] == list(range(0, 40, 4))
    assert sorted(fake.script.points) == [f"p{i:03}" for i in range(40)]


def test_stream_that_stays_broken_is_an_error(client: Any, fake: Any) -> None:
    fake.script.break_stream_after += [0] * 9
    with pytest.raises(NotReady, match="broken"):
        list(client.upsert_stream("c", [image_point(0)]))


def test_refused_batch_is_sent_again_and_order_holds(client: Any, fake: Any) -> None:
    fake.script.batch_errors += [BatchError(code=8, message="full", retry_after_ms=5)] * 2
    acks = list(client.upsert_stream("c", [image_point(i) for i in range(20)], batch_size=4, in_flight=3))
    assert [ack.first_index for ack in acks] == [0, 4, 8, 12, 16]
    assert sum(ack.upserted for ack in acks) == 20


def test_failed_batch_fails_its_items_and_the_stream_goes_on(client: Any, fake: Any) -> None:
    fake.script.batch_errors.append(BatchError(code=13, message="internal error"))
    acks = list(client.upsert_stream("c", [image_point(i) for i in range(8)], batch_size=4))
    assert [error.index for error in acks[0].errors] == [0, 1, 2, 3]
    assert acks[0].errors[0].code == "INTERNAL"
    assert acks[1].upserted == 4


def test_missing_collection_ends_the_stream(client: Any, fake: Any) -> None:
    fake.script.batch_errors.append(BatchError(code=5, message="no collection 'c'"))
    with pytest.raises(NotFound, match="no collection 'c'"):
        list(client.upsert_stream("c", [image_point(i) for i in range(8)], batch_size=4))


def test_silent_server_is_not_waited_for_for_ever(client: Any, fake: Any) -> None:
    fake.script.stall.set()
    with pytest.raises(TooLate, match="0.5 s"):
        list(client.upsert_stream("c", [image_point(0)], timeout=0.5))


def test_error_of_the_callers_generator_comes_through(client: Any) -> None:
    def points() -> Any:
        yield image_point(0)
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        list(client.upsert_stream("c", points(), batch_size=1, in_flight=1))


def test_embed_stream_answers_each_input_in_order(client: Any) -> None:
    inputs = ["x" * (i + 1) for i in range(30)] + [b"bad", "y"]
    found = list(client.embed_stream(inputs, batch_size=4, in_flight=2))
    assert [one.index for one in found] == list(range(32))
    assert [one.vector[0] for one in found[:30]] == list(range(1, 31))
    assert found[30].vector is None
    assert found[30].error.message == "is bad"
    assert found[31].vector is not None


def test_batch_size_and_in_flight_are_checked(client: Any) -> None:
    with pytest.raises(InvalidInput, match="batch_size is 0"):
        list(client.embed_stream(["a"], batch_size=0))
    with pytest.raises(InvalidInput, match="max_attempts is 0"):
        RetryPolicy(max_attempts=0)
