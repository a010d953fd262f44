"""Batches hold every item once, in order, within both limits, and none is split off without need."""

from hypothesis import given
from hypothesis import strategies as st

from nearlight.client.batching import ITEM_OVERHEAD_BYTES, batches, room_bytes


@given(st.lists(st.integers(0, 60)), st.integers(1, 5), st.integers(1, 200))
def test_batches(sizes: list[int], max_items: int, max_bytes: int) -> None:
    found = list(batches(enumerate(sizes), max_items, max_bytes))
    assert [i for batch in found for i in batch] == list(range(len(sizes)))

    def taken(batch: list[int]) -> int:
        return sum(sizes[i] + ITEM_OVERHEAD_BYTES for i in batch)

    for batch in found:
        assert 1 <= len(batch) <= max_items
        assert taken(batch) <= max_bytes or len(batch) == 1
    for batch, following in zip(found, found[1:], strict=False):
        assert len(batch) == max_items or taken([*batch, following[0]]) > max_bytes


def test_room_leaves_space_for_the_rest_of_the_message() -> None:
    assert room_bytes(4_000_000) == 4_000_000 - 65_536
    assert room_bytes(1000) == 500
    assert room_bytes(1) == 1
