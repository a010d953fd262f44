"""The Python client's and the command's mixes, batches and groups, against a real server."""

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from nearlight.client import AsyncClient, Client, Example, InvalidInput, ItemError, Point, QueryResult, cli

N = 150
VECTORS = np.random.default_rng(6).standard_normal((N, 16)).astype(np.float32)
UNIT = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def client(address: str) -> Any:
    with Client(address) as opened:
        opened.create_collection("q")
        points = [
            Point(i, vector=VECTORS[i], payload={"album": f"a{i % 4}", "fill": "x" * 40_000})
            for i in range(N)
        ]
        assert opened.upsert("q", points).upserted == N
        yield opened


def ids(result: Any) -> list[Any]:
    return [hit.id for hit in result]


def test_mix_and_variety(client: Client) -> None:
    mean = UNIT[1] - UNIT[2]
    expected = [int(i) for i in np.argsort(-UNIT @ mean) if i not in (1, 2)]
    like, unlike = [Example(id=1)], [Example(vector=VECTORS[2]), Example(id=2, weight=1)]
    assert ids(client.query("q", like=like, unlike=unlike, limit=5)) == expected[:5]
    best = client.query("q", like=[Example(id=1), Example(text="a")], strategy="best_score", limit=3)
    assert len(best) == 3
    plain = client.query("q", vector=VECTORS[0], limit=5)
    assert ids(client.query("q", vector=VECTORS[0], diversity=0, limit=5)) == ids(plain)
    assert ids(client.query("q", vector=VECTORS[0], diversity=0.9, candidates=60, limit=5)) != ids(plain)
    for options, words in (
        ({"like": like, "text": "x"}, "exactly one of text, image, vector, id, or like and unlike"),
        ({}, "a query has nothing to look for"),
        ({"like": like, "strategy": "worst"}, "strategy is 'worst'"),
    ):
        with pytest.raises(InvalidInput, match=words):
            client.query("q", **options)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="an example has nothing"):
        Example()


def test_a_batch_larger_than_the_server_takes_and_than_a_message_holds(client: Client) -> None:
    """70 queries of 140 fat hits each: batches are split, replies are cut, one query fails."""
    queries: list[Any] = [{"vector": VECTORS[i], "limit": 1, "with_payload": False} for i in range(66)]
    queries += [{"id": 3, "limit": 140}, {"text": ""}, {"vector": VECTORS[5][:3]}, {"id": 4, "limit": 2}]
    results = client.query_batch("q", queries)
    assert [type(one) for one in results] == [QueryResult] * 67 + [ItemError] * 2 + [QueryResult]
    assert [ids(one) for one in results[:66]] == [[i] for i in range(66)]
    assert ids(results[66]) == [int(i) for i in np.argsort(-UNIT @ UNIT[3]) if i != 3][:140]
    assert isinstance(results[68], ItemError)
    assert (results[68].index, results[68].code) == (68, "INVALID_ARGUMENT")
    assert ids(results[69]) == ids(client.query("q", id=4, limit=2))
    assert client.query_batch("q", []) == []


def test_groups(client: Client) -> None:
    groups = client.query_groups(
        "q", "album", group_size=2, vector=VECTORS[0], limit=3, with_payload=["album"]
    )
    order = np.argsort(-UNIT @ UNIT[0])
    expected: dict[str, list[int]] = {}
    for i in order:
        expected.setdefault(f"a{i % 4}", []).append(int(i))
    assert [(one.value, ids(one.hits)) for one in groups] == [
        (k, v[:2]) for k, v in list(expected.items())[:3]
    ]
    assert groups[0].hits[0].payload == {"album": groups[0].value}


def test_scroll_in_the_order_of_a_payload_key(client: Client) -> None:
    """The pages are cut shorter than asked: 150 points take more than a message."""
    found = client.scroll("q", order_by="album", descending=True, page_size=100)
    assert [hit.id for hit in found] == sorted(range(N), key=lambda i: (-(i % 4), i))


def test_verify(address: str, client: Client, monkeypatch: Any) -> None:
    report = client.verify("q", sample=20)
    assert (report.ok, report.points_checked, report.problems) == (True, N, ())
    with pytest.raises(InvalidInput, match="sample is 2000000; the limit is 1000000"):
        client.verify("q", sample=2_000_000)
    monkeypatch.setenv("NEARLIGHT_SERVER", address)
    result = CliRunner().invoke(cli.app, ["collections", "verify", "q"])
    assert (result.exit_code, result.stdout) == (0, "q: 150 points, 0 problems\n")


def test_the_async_client_too(address: str, client: Client) -> None:
    async def work() -> list[Any]:
        async with AsyncClient(address) as other:
            batch = await other.query_batch("q", [{"id": 1, "limit": 2}])
            groups = await other.query_groups("q", "album", id=1, limit=2)
            ordered = [point.id async for point in other.scroll("q", order_by="album")]
            assert ordered == sorted(range(N), key=lambda i: (i % 4, i))
            assert (await other.verify("q")).ok
            return [ids(batch[0]), [one.value for one in groups]]

    expected = [ids(client.query("q", id=1, limit=2))]
    expected.append([one.value for one in client.query_groups("q", "album", id=1, limit=2)])
    assert asyncio.run(work()) == expected


def test_the_command_mixes_varies_and_groups(address: str, client: Client, monkeypatch: Any) -> None:
    monkeypatch.setenv("NEARLIGHT_SERVER", address)

    def found(*words: str) -> list[Any]:
        result = CliRunner().invoke(cli.app, ["search", "-c", "q", "--json", *words])
        assert result.exit_code == 0, result.output
        return [hit["id"] for hit in json.loads(result.stdout)]

    mixed = client.query("q", like=[Example(text="a dog")], unlike=[Example(text="people")], limit=4)
    assert found("a dog", "--without", "people", "-n", "4") == ids(mixed)
    beside = client.query("q", like=[Example(id=3), Example(text="a dog")], limit=4)
    assert found("a dog", "--id", "3", "-n", "4") == ids(beside)
    assert found("--id", "3", "-n", "4") == ids(client.query("q", id=3, limit=4))
    varied = client.query("q", text="a dog", diversity=0.8, limit=4)
    assert found("a dog", "--diversity", "0.8", "-n", "4") == ids(varied)
    groups = client.query_groups("q", "album", text="a dog", limit=3)
    assert found("a dog", "--group-by", "album", "-n", "3") == [one.hits[0].id for one in groups]
    assert CliRunner().invoke(cli.app, ["search", "-c", "q"]).exit_code == 2


def test_the_commands_of_aliases_and_payload_indexes(address: str, client: Client, monkeypatch: Any) -> None:
    monkeypatch.setenv("NEARLIGHT_SERVER", address)

    def run(*words: str, code: int = 0) -> Any:
        result = CliRunner().invoke(cli.app, ["collections", *words, "--json"])
        assert result.exit_code == code, result.output
        return json.loads(result.stdout) if code == 0 else result.output

    assert run("aliases", "live=q", "old=q") == {"live": "q", "old": "q"}
    assert run("aliases", "--remove", "old") == {"live": "q"}
    assert run("index-payload", "live", "album")["payload_indexes"] == {"album": "keyword"}
    assert run("index-payload", "q", "album", "--drop")["payload_indexes"] == {}
    assert "is not of the form ALIAS=COLLECTION" in run("aliases", "x", code=2)
    assert "kind is 'text'" in run("index-payload", "q", "album", "--kind", "text", code=1)
