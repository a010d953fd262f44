"""Blocks of points on their way: cut, sent, sent again, answered; on both clients."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nearlight.client import InvalidInput, Limits, PointBlock

BLOCK_LIMITS = Limits(max_message_bytes=1_000_000, max_batch_inputs=5)


def sent(fake: Any) -> list[Any]:
    return [one.batch for one in fake.script.requests("UpsertStream") if one is not None]


@pytest.mark.parametrize("fake", [BLOCK_LIMITS, replace(BLOCK_LIMITS, max_block_points=7)], indirect=True)
def test_blocks_go_as_blocks_or_to_an_older_server_as_points(client: Any, fake: Any) -> None:
    rows = np.arange(80, dtype=np.float64).reshape(20, 4)
    ids: list[Any] = [f"p{i}" for i in range(19)] + [""]
    fake.script.break_stream_after += [1, 0]
    given = (
        PointBlock(ids[at : at + 10], rows[at : at + 10], [{"i": i} for i in range(10)]) for at in (0, 10)
    )
    acks = list(client.upsert_blocks("c", given, block_points=6, in_flight=2))
    assert [one for ack in acks for one in ack.ids] == ids
    assert [error.index for ack in acks for error in ack.errors] == [19]
    found = {key: np.frombuffer(one.vector.data, "<f4").tolist() for key, one in fake.script.points.items()}
    assert found == {ids[i]: rows[i].tolist() for i in range(19)}
    assert fake.script.points["p13"].payload_json == b'{"i":3}'
    batches = sent(fake)
    if fake.script.limits.max_block_points:
        assert max(len(one.block.ids) for one in batches) == 6
        assert not any(one.points for one in batches)
    else:
        assert max(len(one.points) for one in batches) == 5
        assert not any(one.HasField("block") for one in batches)


@pytest.mark.parametrize("fake", [Limits(max_message_bytes=200_000, max_block_points=1000)], indirect=True)
def test_blocks_are_cut_to_what_a_message_holds(client: Any, fake: Any) -> None:
    payloads = [{"text": "x" * 9_000 * (i % 3)} for i in range(40)] + [{"text": "x" * 200_000}]
    acks = list(client.upsert_blocks("c", PointBlock(range(1, 42), np.ones((41, 4)), payloads)))
    assert len(acks) > 3
    assert [error.index for ack in acks for error in ack.errors] == [40]
    assert sorted(fake.script.points) == list(range(1, 41))
    assert all(one.ByteSize() < 200_000 for one in sent(fake))


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (([1, 2], np.ones((1, 4))), "ids holds 2 items, vectors has 1 rows"),
        (([1], np.ones((1, 4)), []), "payloads holds 0 items, vectors has 1 rows"),
        (([1], np.ones(4)), "vectors have shape"),
        (([1], [["a"]]), "are not numbers"),
    ],
)
def test_columns_that_do_not_fit_are_refused(columns: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        PointBlock(*columns)
