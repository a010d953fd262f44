"""The order of points by a payload value."""

import heapq
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nearlight.store.filters.conditions import Path
from nearlight.store.filters.instants import instant_us
from nearlight.store.filters.matching import Row
from nearlight.store.ids import id_of, key_of
from nearlight.store.points import PointId

_NUMBER, _MOMENT, _TEXT, _NOTHING = range(4)


@dataclass(frozen=True, slots=True)
class OrderedPlace:
    """Where a point is in an order.

    Attributes:
        rank: 0 number, 1 moment, 2 other string, 3 neither.
        value: the number, the moment in microseconds since 1970 UTC, the string, or 0.
        id: of the point.
    """

    rank: int
    value: int | float | str
    id: PointId


@dataclass(frozen=True, slots=True)
class Order:
    """Numbers, then moments in time (as `instants` reads them), then other strings, at a payload key.

    Of a list its smallest such item counts, where descending its largest. Points without any come last,
    descending or not; equals by id.

    Attributes:
        path: the keys that lead to the value.
        descending: largest first.
    """

    path: Path
    descending: bool = False

    def place_of(self, payload: Mapping[str, Any], point_id: PointId) -> OrderedPlace:
        """Where a point is."""
        value: Any = payload
        for part in self.path:
            value = value.get(part) if isinstance(value, Mapping) else None
        items = value if isinstance(value, list) else [value]
        choose = max if self.descending else min
        rank, best = choose(filter(None, map(_ranked, items)), default=(_NOTHING, 0))
        return OrderedPlace(rank, best, point_id)

    def first(self, rows: Iterable[Row], n: int, after: OrderedPlace | None) -> list[Row]:
        """The first n rows in this order, or the first behind a place."""
        behind = None if after is None else self._key(after)
        placed = ((self._key(self.place_of(json.loads(row[2]), id_of(row[1]))), row) for row in rows)
        some = (one for one in placed if behind is None or behind < one[0])
        return [row for _, row in heapq.nsmallest(n, some, key=lambda one: one[0])]

    def _key(self, place: OrderedPlace) -> Any:
        key = key_of(place.id)
        by_id = (isinstance(key, str), key)
        ranked = (place.rank, place.value)
        if not self.descending:
            return (ranked, by_id)
        return (place.rank == _NOTHING, _Descending(ranked), by_id)


@dataclass(frozen=True, slots=True)
class _Descending:
    """Sorts the other way round."""

    value: tuple[int, Any]

    def __lt__(self, other: "_Descending") -> bool:
        return other.value < self.value


def _ranked(value: object) -> tuple[int, Any] | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _NUMBER, value
    if isinstance(value, str):
        moment = instant_us(value)
        return (_TEXT, value) if moment is None else (_MOMENT, moment)
    return None
