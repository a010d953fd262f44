"""Which points a write touches: checked when it is asked for, looked up at the moment of the write."""

import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeAlias

from nearlight.store.filters.checks import check_filter
from nearlight.store.filters.conditions import Filter
from nearlight.store.filters.matching import matching_seqs
from nearlight.store.ids import key_of
from nearlight.store.points import PointId
from nearlight.store.rows import Place
from nearlight.store.seqs_by_key import own_seqs_of

Selection: TypeAlias = Sequence[PointId] | Filter
"""The points of these ids, or those that pass."""


def lookup_of(points: Selection, place: Place) -> Callable[[sqlite3.Connection], list[int]]:
    """Check a selection; returns what finds the seqs of its points, in no order, each once.

    Raises:
        InvalidPoint: an id is malformed.
        InvalidQuery: the filter is refused.
    """
    if isinstance(points, Filter):
        check_filter(points)
        return lambda connection: matching_seqs(connection, place.collection_id, points).tolist()
    keys = list(dict.fromkeys(key_of(point_id, i) for i, point_id in enumerate(points)))
    return lambda connection: own_seqs_of(connection, place, keys)


def size_of(points: Selection) -> int:
    """About how many points there are, at least 1; of a filter nobody knows yet."""
    return 1 if isinstance(points, Filter) else max(1, len(points))
