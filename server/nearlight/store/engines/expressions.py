"""Conditions that every engine can test: on facets and ids, in plain logic.

Negation is pushed down to the leaves, where it is exact: engines disagree about `not` over a number that is
missing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from nearlight.store.points import PointId

Comparison = Literal["<", "<=", ">", ">="]
_OPPOSITE: dict[Comparison, Comparison] = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}


@dataclass(frozen=True, slots=True)
class AnyToken:
    """At least one of these facts holds."""

    tokens: frozenset[str]


@dataclass(frozen=True, slots=True)
class NoToken:
    """None of these facts holds."""

    tokens: frozenset[str]


@dataclass(frozen=True, slots=True)
class Number:
    """A number is there and compares so.

    Attributes:
        name: of the number.
        has: token of the fact that it is there.
        comparison: to the value.
        value: finite.
    """

    name: str
    has: str
    comparison: Comparison
    value: float


@dataclass(frozen=True, slots=True)
class IdIn:
    """The id is one of these."""

    ids: frozenset[PointId]


@dataclass(frozen=True, slots=True)
class IdNotIn:
    """The id is none of these."""

    ids: frozenset[PointId]


@dataclass(frozen=True, slots=True)
class AllOf:
    """All hold; of none: always."""

    parts: "tuple[Expression, ...]"


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one holds; of none: never."""

    parts: "tuple[Expression, ...]"


@dataclass(frozen=True, slots=True)
class AtLeast:
    """At least so many hold: more than one, fewer than all."""

    n: int
    parts: "tuple[Expression, ...]"


Expression: TypeAlias = AnyToken | NoToken | Number | IdIn | IdNotIn | AllOf | AnyOf | AtLeast

Pair: TypeAlias = tuple[Expression, Expression]
"""Lower and upper bound of a condition, see `bounds`."""

EVERYTHING = AllOf(())
NOTHING = AnyOf(())


def any_token(*tokens: str) -> Expression:
    """One of these facts holds."""
    return AnyToken(frozenset(tokens)) if tokens else NOTHING


def no_token(*tokens: str) -> Expression:
    """None of these facts holds."""
    return NoToken(frozenset(tokens)) if tokens else EVERYTHING


def id_in(ids: Iterable[PointId]) -> Expression:
    """The id is one of these."""
    some = frozenset(ids)
    return IdIn(some) if some else NOTHING


def all_of(parts: Iterable[Expression]) -> Expression:
    """All hold, in the plainest form."""
    kept = tuple(dict.fromkeys(part for part in parts if part != EVERYTHING))
    if NOTHING in kept:
        return NOTHING
    return kept[0] if len(kept) == 1 else AllOf(kept)


def any_of(parts: Iterable[Expression]) -> Expression:
    """At least one holds, in the plainest form."""
    kept = tuple(dict.fromkeys(part for part in parts if part != NOTHING))
    if EVERYTHING in kept:
        return EVERYTHING
    return kept[0] if len(kept) == 1 else AnyOf(kept)


def at_least(n: int, parts: Iterable[Expression]) -> Expression:
    """At least so many hold, in the plainest form; one that comes twice counts twice."""
    all_parts = [part for part in parts if part != NOTHING]
    n -= all_parts.count(EVERYTHING)
    kept = tuple(part for part in all_parts if part != EVERYTHING)
    if n <= 0:
        return EVERYTHING
    if n > len(kept):
        return NOTHING
    if n == len(kept):
        return all_of(kept)
    return any_of(kept) if n == 1 else AtLeast(n, kept)


def negated(expression: Expression) -> Expression:
    """What holds where the expression does not."""
    match expression:
        case AnyToken(tokens):
            return NoToken(tokens)
        case NoToken(tokens):
            return AnyToken(tokens)
        case Number(name, has, comparison, value):
            return any_of((no_token(has), Number(name, has, _OPPOSITE[comparison], value)))
        case IdIn(ids):
            return IdNotIn(ids)
        case IdNotIn(ids):
            return IdIn(ids)
        case AllOf(parts):
            return any_of(map(negated, parts))
        case AnyOf(parts):
            return all_of(map(negated, parts))
        case AtLeast(n, parts):
            return at_least(len(parts) - n + 1, map(negated, parts))
