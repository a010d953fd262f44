"""Cuts a list into batches that stay under the server's limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

# Room for the request's other fields and for gRPC's own framing.
MESSAGE_RESERVE_BYTES = 64 * 1024
# Tag and length of a nested message or bytes field, at most.
ITEM_OVERHEAD_BYTES = 16


@dataclass(slots=True)
class Batcher(Generic[T]):
    """Collects items until the batch is full or the next one would not fit.

    Attributes:
        max_items: items of a batch, >= 1.
        max_bytes: sum of their sizes. An item larger than this makes a batch of its own.
    """

    max_items: int
    max_bytes: int
    _items: list[T] = field(default_factory=list)
    _bytes: int = 0

    def add(self, item: T, size_bytes: int) -> list[T] | None:
        """Adds an item; returns the batch that is now complete, if one is: at most one ever is."""
        size_bytes += ITEM_OVERHEAD_BYTES
        done = self.flush() if self._bytes + size_bytes > self.max_bytes else None
        self._items.append(item)
        self._bytes += size_bytes
        return self.flush() if len(self._items) >= self.max_items else done

    def flush(self) -> list[T] | None:
        """Returns what was collected, or None where there is nothing."""
        items, self._items, self._bytes = self._items, [], 0
        return items or None


def room_bytes(max_message_bytes: int) -> int:
    """Returns what the items of one message may take together."""
    return max(max_message_bytes - MESSAGE_RESERVE_BYTES, max_message_bytes // 2, 1)


def batches(items: Iterable[tuple[T, int]], max_items: int, max_bytes: int) -> Iterator[list[T]]:
    """Yields the items in order, in batches that hold at most max_items and max_bytes."""
    batcher: Batcher[T] = Batcher(max_items, max_bytes)
    for item, size_bytes in items:
        done = batcher.add(item, size_bytes)
        if done is not None:
            yield done
    rest = batcher.flush()
    if rest is not None:
        yield rest
