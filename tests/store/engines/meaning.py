"""What an expression means, in the plainest way."""

from nearlight.store import PointId
from nearlight.store.engines import expressions as e
from nearlight.store.engines.facets import Facets

_COMPARE = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def holds(expression: e.Expression, point_id: PointId, facets: Facets) -> bool:
    match expression:
        case e.AnyToken(tokens):
            return bool(tokens & facets.tokens)
        case e.NoToken(tokens):
            return not tokens & facets.tokens
        case e.Number(name, has, comparison, value):
            there = name in facets.numbers
            assert there == (has in facets.tokens)
            return there and _COMPARE[comparison](facets.numbers[name], value)
        case e.IdIn(ids):
            return any(type(one) is type(point_id) and one == point_id for one in ids)
        case e.IdNotIn(ids):
            return not holds(e.IdIn(ids), point_id, facets)
        case e.AllOf(parts):
            return all(holds(part, point_id, facets) for part in parts)
        case e.AnyOf(parts):
            return any(holds(part, point_id, facets) for part in parts)
        case e.AtLeast(n, parts):
            return sum(holds(part, point_id, facets) for part in parts) >= n
