"""Pages of points: from the wire, and the cursor to the next."""

import json
from dataclasses import dataclass
from typing import Any

from nearlight.server.convert.filters import wanted_filter
from nearlight.server.convert.points import Wanted, path_of, wanted_parts
from nearlight.server.convert.values import dtype_of, page_size_of
from nearlight.server.errors import InvalidInput
from nearlight.store import Filter, Order, OrderedPlace, PointId, Record, VectorCollection
from nearlight.v1 import point_pb2

MAX_SCROLL = 10_000

Place = PointId | OrderedPlace
"""The last point of a page: by its id, or in an order."""


@dataclass(frozen=True, slots=True)
class PageWish:
    """A checked Scroll: the last place seen (None: at the start), how many points, which parts and points."""

    after: Place | None
    limit: int
    wanted: Wanted
    filter: Filter | None
    order: Order | None


def page_wish(request: point_pb2.ScrollRequest) -> PageWish:
    """What a Scroll asks, checked.

    Raises:
        InvalidInput: a limit above 10,000, a cursor that is not ours, or a bad filter or order.
    """
    dtype_of(request.dtype, "dtype")
    order = None
    if request.HasField("order_by"):
        order = Order(path_of(request.order_by.key, "order_by.key"), request.order_by.descending)
    return PageWish(
        after=_place_of(request.cursor, order) if request.cursor else None,
        limit=page_size_of(request.limit, default=100, largest=MAX_SCROLL, field="limit"),
        wanted=wanted_parts(request.with_payload, request.with_vectors, request.dtype),
        filter=wanted_filter(request),
        order=order,
    )


def page_of(collection: VectorCollection, wish: PageWish) -> tuple[list[Record], bool]:
    """The points of a page, and whether there are more."""
    following: Place | None
    if wish.order is None:
        after = None if isinstance(wish.after, OrderedPlace) else wish.after
        records, following = collection.scroll(
            after, limit=wish.limit, with_vectors=wish.wanted.vectors, filter=wish.filter
        )
    else:
        place = wish.after if isinstance(wish.after, OrderedPlace) else None
        records, following = collection.scroll_in_order(
            wish.order, place, limit=wish.limit, with_vectors=wish.wanted.vectors, filter=wish.filter
        )
    return records, following is not None


def cursor_after(record: Record, order: Order | None) -> str:
    """The cursor that goes on after a point."""
    if order is None:
        return json.dumps(record.id)
    place = order.place_of(record.payload, record.id)
    return json.dumps([place.rank, place.value, place.id])


def _place_of(cursor: str, order: Order | None) -> Place:
    try:
        found = json.loads(cursor)
    except (ValueError, RecursionError):
        found = None
    if order is None and _is_id(found):
        return found  # type: ignore[no-any-return]
    if order is not None and isinstance(found, list) and len(found) == 3:
        rank, value, point_id = found
        fits = isinstance(value, str) if rank == 2 else isinstance(value, int | float)
        if rank in (0, 1, 2, 3) and fits and _is_id(point_id):
            return OrderedPlace(rank, value, point_id)
    what = "ours" if order is None else "this order"
    raise InvalidInput(f"cursor is {cursor[:80]!r}; it must be a next_cursor of {what}", field="cursor")


def _is_id(value: Any) -> bool:
    if isinstance(value, str):
        return 1 <= len(value.encode("utf-8", "surrogatepass")) <= 512
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64
