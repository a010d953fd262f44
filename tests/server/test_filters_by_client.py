"""The Python client's filters and payloads, against a real server."""

import asyncio

import numpy as np
import pytest

from nearlight.client import AsyncClient, Client, InvalidInput, Point

VECTORS = np.random.default_rng(8).standard_normal((30, 16)).astype(np.float32)


def test_filter_set_and_delete_payload(address: str) -> None:
    with Client(address) as client:
        client.create_collection("by-client")
        points = [
            Point(i, vector=VECTORS[i], payload={"year": 2000 + i, "tags": ["x", f"t{i % 3}"]})
            for i in range(30)
        ]
        assert client.upsert("by-client", points).upserted == 30
        recent = {"must": [{"field": {"key": "year", "range": {"gte": 2020}}}]}
        found = client.query("by-client", vector=VECTORS[0], filter=recent, limit=30)
        assert sorted(hit.id for hit in found) == list(range(20, 30))
        assert found.info.filtered_count == client.count("by-client", recent) == 10
        assert client.set_payload("by-client", recent, {"stars": 5}) == 10
        assert client.set_payload("by-client", [0, 1], {"make": "X"}, key="camera") == 2
        starred = {
            "must_not": [{"is_empty": "stars"}],
            "must": [{"has_id": {"ids": [{"num": 3}, {"num": 25}]}}],
        }
        assert [record.id for record in client.scroll("by-client", filter=starred)] == [25]
        assert client.delete_payload("by-client", recent, ["stars", "tags"]) == 10
        [record] = client.get("by-client", [25], with_vectors=True)
        assert record.payload == {"year": 2025}
        assert record.vector is not None
        np.testing.assert_allclose(record.vector, VECTORS[25] / np.linalg.norm(VECTORS[25]), atol=1e-6)
        assert client.delete("by-client", recent) == 10
        assert client.count("by-client") == 20
        with pytest.raises(InvalidInput, match=r"filter\.must\[0\]\.field\.datetime_range\.gt is 'soon'"):
            client.count("by-client", {"must": [{"field": {"key": "k", "datetime_range": {"gt": "soon"}}}]})


def test_payload_indexes_and_aliases(address: str) -> None:
    with Client(address) as client:
        client.create_collection("by-index")
        client.upsert("by-index", [Point(i, vector=VECTORS[i], payload={"t": f"t{i % 3}"}) for i in range(9)])
        assert client.create_payload_index("by-index", "t", "keyword").payload_indexes == {"t": "keyword"}
        client.update_aliases({"a1": "by-index", "a2": "by-index"})
        is_t1 = {"must": [{"field": {"key": "t", "match": {"keyword": "t1"}}}]}
        assert sorted(hit.id for hit in client.query("a1", vector=VECTORS[0], filter=is_t1)) == [1, 4, 7]
        client.update_aliases({"a3": "by-index"}, ["a1", "a2"])
        assert client.aliases() == {"a3": "by-index"}
        assert client.delete_payload_index("a3", "t").payload_indexes == {}
        with pytest.raises(InvalidInput, match="kind is 'text'; it must be one of keyword, integer"):
            client.create_payload_index("a3", "t", "text")  # type: ignore[arg-type]


def test_the_async_client_too(address: str) -> None:
    async def work() -> list[object]:
        async with AsyncClient(address) as client:
            await client.create_collection("by-async")
            await client.upsert("by-async", [Point(i, vector=VECTORS[i], payload={"i": i}) for i in range(5)])
            changed = await client.set_payload("by-async", [1, 2], {"k": "a"})
            removed = await client.delete_payload("by-async", [2])
            is_a = {"must": [{"field": {"key": "k", "match": {"keyword": "a"}}}]}
            await client.create_payload_index("by-async", "k", "keyword")
            await client.update_aliases({"by-alias": "by-async"})
            hits = await client.query("by-alias", vector=VECTORS[0], filter=is_a)
            kinds = (await client.delete_payload_index("by-async", "k")).payload_indexes
            return [changed, removed, [hit.id for hit in hits], kinds, (await client.aliases())["by-alias"]]

    assert asyncio.run(work()) == [2, 1, [1], {}, "by-async"]
