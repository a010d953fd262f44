"""Changes of payloads and filters, each promise tested on both clients."""

from collections.abc import Callable
from typing import Any

import pytest

from nearlight.client import InvalidInput, Limits
from nearlight.v1.filter_pb2 import Condition, FieldCondition, Filter, Match

SMALL = Limits(max_message_bytes=1_000_000, max_batch_inputs=5)
AS_JSON = {"must": [{"field": {"key": "a.b", "match": {"integer": 9007199254740993}}}], "min_should": 0}
AS_MESSAGE = Filter(
    must=[Condition(field=FieldCondition(key="a.b", match=Match(integer=2**53 + 1)))], min_should=0
)


@pytest.mark.parametrize("fake", [SMALL], indirect=True)
def test_ids_go_in_batches_the_server_takes(client: Any, fake: Any) -> None:
    assert client.set_payload("c", list(range(12)), {"k": 2**60}, key="in.side", replace=True) == 12
    requests = fake.script.requests("SetPayload")
    assert [len(request.points.ids.ids) for request in requests] == [5, 5, 2]
    assert {(r.payload_json, r.key, r.replace) for r in requests} == {
        (b'{"k":1152921504606846976}', "in.side", True)
    }
    assert client.delete_payload("c", ["a"] * 6, ["k", "in.side"]) == 6
    assert [list(r.keys) + [r.all] for r in fake.script.requests("DeletePayload")] == [
        ["k", "in.side", False]
    ] * 2
    assert client.delete_payload("c", ["a"]) == 1
    assert fake.script.requests("DeletePayload")[-1].all


@pytest.mark.parametrize("filter", [AS_JSON, AS_MESSAGE])
def test_a_filter_is_a_message_or_the_same_as_json(client: Any, fake: Any, filter: Any) -> None:
    assert client.set_payload("c", filter, {}) == 7
    assert client.delete_payload("c", filter, ["k"]) == 7
    client.delete("c", filter)
    for method in ("SetPayload", "DeletePayload", "Delete"):
        assert fake.script.requests(method)[-1].points.filter == AS_MESSAGE
    client.count("c", filter)
    list(client.scroll("c", filter=filter))
    client.query("c", text="t", filter=filter)
    for method in ("Count", "Scroll", "Query"):
        assert fake.script.requests(method)[-1].filter == AS_MESSAGE


def test_what_cannot_be_right_is_not_sent(client: Any, fake: Any) -> None:
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: client.count("c", {"must": [{"nope": 1}]}), "nope"),
        (lambda: client.query("c", text="t", filter={"must": [{"field": {"match": 1}}]}), "filter.proto"),
        (lambda: client.set_payload("c", "abc", {}), "one string"),
        (lambda: client.set_payload("c", [1], {"x": float("nan")}), "payload cannot be JSON"),
        (lambda: client.delete_payload("c", [1], "key"), "one string"),
    ]
    for call, words in calls:
        with pytest.raises(InvalidInput, match=words):
            call()
    assert not [method for method in ("Count", "Query", "SetPayload") if fake.script.requests(method)]
