"""The best hits of each value of a payload key."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from nearlight.store.filters.conditions import (
    AnyInteger,
    AnyKeyword,
    Boolean,
    Condition,
    Field,
    Filter,
    Path,
    Range,
)
from nearlight.store.filters.sql_tests import above, below
from nearlight.store.points import Hit

_WIDEN = 4
_FIRST_HITS = 64

Best: TypeAlias = Callable[[int, Filter], list[Hit]]
"""The best hits, at most so many, of the points that pass; with payloads."""


@dataclass(frozen=True, slots=True, eq=False)
class HitGroup:
    """Hits that share a value.

    Attributes:
        value: a string, an integer, a float or a truth value; `1`, `1.0` and `True` are three groups.
        hits: best first, at least one.
    """

    value: str | int | float | bool
    hits: list[Hit]


def grouped(best: Best, among: Filter, path: Path, n_groups: int, group_size: int) -> list[HitGroup]:
    """The first groups that come up in the order of hits, each with its best hits.

    First looks for enough groups, then, among the points of those still short of hits, for these.

    Args:
        best: searches; always in the same state.
        among: which points take part.
        path: of the value.
        n_groups: at most so many groups.
        group_size: at most so many hits in each.
    """
    limit = max(_FIRST_HITS, _WIDEN * n_groups * group_size)
    while True:
        hits = best(limit, among)
        groups = _fill(hits, path, group_size)
        if len(hits) < limit or len(groups) >= n_groups:
            break
        limit *= _WIDEN
    chosen = dict(list(groups.items())[:n_groups])
    is_all_seen = len(hits) < limit
    while not is_all_seen and (short := [one for one in chosen.values() if len(one.hits) < group_size]):
        wanted = Filter(should=tuple(_conditions(path, (one.value for one in short))))
        hits = best(limit, replace(among, must=(*among.must, wanted)))
        fuller = _fill(hits, path, group_size)
        chosen |= {key: fuller[key] for key in map(_key_of, (one.value for one in short)) if key in fuller}
        is_all_seen = len(hits) < limit
        limit *= _WIDEN
    return list(chosen.values())


def _fill(hits: Iterable[Hit], path: Path, group_size: int) -> dict[str, HitGroup]:
    groups: dict[str, HitGroup] = {}
    for hit in hits:
        for key, value in {_key_of(value): value for value in _values_at(hit.payload, path)}.items():
            group = groups.setdefault(key, HitGroup(value, []))
            if len(group.hits) < group_size:
                group.hits.append(hit)
    return groups


def _values_at(payload: Any, path: Path) -> Iterator[str | int | float | bool]:
    for part in path:
        payload = payload.get(part) if isinstance(payload, dict) else None
    for value in payload if isinstance(payload, list) else (payload,):
        if isinstance(value, str | int | float):
            yield value


def _key_of(value: object) -> str:
    """Tells apart what `==` does not: 1, 1.0 and True."""
    return json.dumps(value)


def _conditions(path: Path, values: Iterable[str | int | float | bool]) -> Iterator[Condition]:
    """Conditions of which one holds where a point has one of the values; some others may pass too."""
    texts: set[str] = set()
    integers: set[int] = set()
    for value in values:
        if isinstance(value, bool):
            yield Field(path, Boolean(value))
        elif isinstance(value, str):
            texts.add(value)
        elif isinstance(value, int) and -(2**63) <= value < 2**63:
            integers.add(value)
        else:
            yield Field(path, Range(gte=below(value), lte=above(value)))
    if texts:
        yield Field(path, AnyKeyword(frozenset(texts)))
    if integers:
        yield Field(path, AnyInteger(frozenset(integers)))
