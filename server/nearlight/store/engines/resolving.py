"""From a filter to an expression that holds for exactly the points that pass."""

import json
from collections.abc import Iterator

from nearlight.store.engines.bounds import Bounds, bounds_of
from nearlight.store.engines.engine import Engine, Page, Parts, Row
from nearlight.store.engines.expressions import (
    EVERYTHING,
    NOTHING,
    Expression,
    all_of,
    any_of,
    id_in,
    negated,
)
from nearlight.store.errors import InvalidQuery
from nearlight.store.filters.checks import check_filter
from nearlight.store.filters.conditions import Filter
from nearlight.store.filters.evaluate import passes
from nearlight.store.ids import key_of

MAX_JUDGED = 10_000


def resolved(engine: Engine, name: str, filter: Filter | None) -> Expression:
    """An expression for a filter. Points that the engine cannot decide on are read and judged here.

    Raises:
        InvalidQuery: the filter is refused, or leaves more than 10,000 points to judge.
    """
    if filter is None:
        return EVERYTHING
    check_filter(filter)
    bounds = bounds_of(filter)
    if bounds.is_exact:
        return bounds.upper
    doubtful = all_of((bounds.upper, negated(bounds.lower)))
    passing = []
    for n, row in enumerate(rows_of(engine, name, doubtful, Parts())):
        if n == MAX_JUDGED:
            raise _too_many(engine, bounds)
        if passes(filter, key_of(row.id), json.loads(row.payload)):
            passing.append(row.id)
    return any_of((bounds.lower, id_in(passing)))


def rows_of(engine: Engine, name: str, where: Expression, parts: Parts) -> Iterator[Row]:
    """All points for which an expression holds, read page by page; those may be written meanwhile."""
    if where == NOTHING:
        return
    page, size = Page(None, engine.limits.rows), engine.limits.rows
    while True:
        rows = engine.page(name, where, page, parts)
        yield from rows
        if len(rows) < size:
            return
        page = Page(rows[-1].id, size)


def _too_many(engine: Engine, bounds: Bounds) -> InvalidQuery:
    what = ", ".join(sorted(bounds.doubts))
    limit = (
        f"{engine.name} cannot decide it for all points, and at most {MAX_JUDGED} may be left over to judge: "
        "add a condition that narrows it"
    )
    return InvalidQuery("filter", f"with {what}", limit)
