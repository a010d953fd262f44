"""Expressions as Qdrant's filters, and ids as Qdrant takes them.

Qdrant takes unsigned integers and UUIDs: an integer stays itself, a string becomes the UUID of its hash
(version 5), and itself stands in the payload.
"""

from collections.abc import Iterable
from uuid import NAMESPACE_URL, uuid5

from qdrant_client import models

from nearlight.store.engines.expressions import (
    AllOf,
    AnyOf,
    AnyToken,
    AtLeast,
    Comparison,
    Expression,
    IdIn,
    IdNotIn,
    NoToken,
    Number,
)
from nearlight.store.points import PointId

_SPACE = uuid5(NAMESPACE_URL, "nearlight:point-id")
_BOUND: dict[Comparison, str] = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}


def qdrant_id(point_id: PointId) -> int | str:
    """The id in Qdrant."""
    return point_id if isinstance(point_id, int) else str(uuid5(_SPACE, point_id))


def qdrant_filter(expression: Expression) -> models.Filter | None:
    """The filter of an expression, None where it always holds."""
    if expression == AllOf(()):
        return None
    condition = _condition(expression)
    return condition if isinstance(condition, models.Filter) else models.Filter(must=[condition])


def _condition(expression: Expression) -> models.Condition:
    match expression:
        case AnyToken(tokens):
            return _has_any(tokens)
        case NoToken(tokens):
            return models.Filter(must_not=[_has_any(tokens)])
        case Number(name, _, comparison, value):
            bounds = models.Range(**{_BOUND[comparison]: value})
            return models.FieldCondition(key=f"numbers.{name}", range=bounds)
        case IdIn(ids):
            return _is_any(ids)
        case IdNotIn(ids):
            return models.Filter(must_not=[_is_any(ids)])
        case AllOf(parts):
            return models.Filter(must=[_condition(part) for part in parts])
        case AnyOf(parts):
            # Qdrant takes an empty `should` for no condition at all.
            return models.Filter(should=[_condition(part) for part in parts]) if parts else _is_any(())
        case AtLeast(n, parts):
            counted = models.MinShould(conditions=[_condition(part) for part in parts], min_count=n)
            return models.Filter(min_should=counted)


def _has_any(tokens: Iterable[str]) -> models.FieldCondition:
    return models.FieldCondition(key="tokens", match=models.MatchAny(any=sorted(tokens)))


def _is_any(ids: Iterable[PointId]) -> models.HasIdCondition:
    return models.HasIdCondition(has_id=[qdrant_id(point_id) for point_id in ids])
