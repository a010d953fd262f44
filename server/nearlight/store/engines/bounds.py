"""A filter between two expressions that engines can test.

Where `lower` holds a point passes; where `upper` does not hold it does not pass. They are the same for most
filters. Where they differ, the points in between are few (lists that straddle a range, the rim of a circle,
long prefixes) and are judged one by one.
"""

from dataclasses import dataclass
from math import isinf

from nearlight.store.engines.expressions import (
    EVERYTHING,
    NOTHING,
    Comparison,
    Expression,
    Number,
    Pair,
    all_of,
    any_of,
    any_token,
    at_least,
    id_in,
    negated,
    no_token,
)
from nearlight.store.engines.facets import PREFIX_LENGTHS, Kind, as_double, has, least, most, token
from nearlight.store.engines.places import ranges_inside, ranges_of_box, within_ranges
from nearlight.store.filters.conditions import (
    AnyInteger,
    AnyKeyword,
    Boolean,
    Condition,
    DatetimeRange,
    ExceptInteger,
    ExceptKeyword,
    Field,
    Filter,
    GeoBox,
    GeoRadius,
    HasId,
    Integer,
    IntegerRange,
    IsEmpty,
    IsNull,
    Keyword,
    Path,
    Prefix,
    Range,
    ValuesCount,
    ValueTest,
)
from nearlight.store.filters.instants import instant_us
from nearlight.store.filters.sphere import candidates_of_radius

_EXACT_BELOW = 2**53  # integers from there on may lie between doubles


@dataclass(frozen=True, slots=True)
class Bounds:
    """Two expressions around a condition.

    Attributes:
        lower: a point surely passes.
        upper: a point may pass.
        doubts: the conditions for which they differ, as users write them.
    """

    lower: Expression
    upper: Expression
    doubts: frozenset[str] = frozenset()

    @property
    def is_exact(self) -> bool:
        """Whether nothing is left to judge."""
        return self.lower == self.upper


def bounds_of(filter: Filter) -> Bounds:
    """The bounds of a checked filter."""
    must = [_bounds(one) for one in filter.must]
    must_not = [_bounds(one) for one in filter.must_not]
    should = [_bounds(one) for one in filter.should]
    n = filter.n_should
    lower = [one.lower for one in must] + [negated(one.upper) for one in must_not]
    upper = [one.upper for one in must] + [negated(one.lower) for one in must_not]
    doubts = frozenset[str]().union(*(one.doubts for one in (*must, *must_not, *should)))
    return Bounds(
        all_of([*lower, at_least(n, (one.lower for one in should))]),
        all_of([*upper, at_least(n, (one.upper for one in should))]),
        doubts,
    )


def _bounds(condition: Condition) -> Bounds:
    match condition:
        case Filter():
            return bounds_of(condition)
        case HasId(ids):
            return _exact(id_in(ids))
        case IsEmpty(path):
            return _exact(no_token(token(path, "present")))
        case IsNull(path):
            return _exact(any_token(token(path, "null")))
        case Field(path, test):
            lower, upper = _of_count(path, test) if isinstance(test, ValuesCount) else _of_test(path, test)
            doubts = set() if lower == upper else {f"{type(test).__name__} on {'.'.join(path)!r}"}
            return Bounds(lower, upper, frozenset(doubts))


def _exact(expression: Expression) -> Bounds:
    return Bounds(expression, expression)


def _of_test(path: Path, test: ValueTest) -> Pair:
    match test:
        case Keyword(text):
            return _same(any_token(token(path, "text", text)))
        case AnyKeyword(texts):
            return _same(any_token(*(token(path, "text", text) for text in texts)))
        case ExceptKeyword(texts):
            tokens = [token(path, "text", text) for text in texts]
            return _except(token(path, "string"), tokens, token(path, "strings"))
        case Boolean(flag):
            return _same(any_token(token(path, "bool", str(flag))))
        case Integer(number):
            return _same(any_token(token(path, "whole", str(number))))
        case AnyInteger(numbers):
            return _same(any_token(*(token(path, "whole", str(number)) for number in numbers)))
        case ExceptInteger(numbers):
            tokens = [token(path, "whole", str(number)) for number in numbers]
            return _except(token(path, "integer"), tokens, token(path, "integers"))
        case Prefix(text):
            return _of_prefix(path, text)
        case Range(gt, gte, lt, lte):
            return _of_range(path, "number", (gt, gte, lt, lte))
        case IntegerRange(gt, gte, lt, lte):
            lower, upper = _of_range(path, "number", (gt, gte, lt, lte))
            is_whole = any_token(token(path, "integer"))
            return all_of((lower, is_whole, no_token(token(path, "float")))), all_of((upper, is_whole))
        case DatetimeRange(gt, gte, lt, lte):
            moments = [None if text is None else instant_us(text) for text in (gt, gte, lt, lte)]
            return _of_range(path, "moment", (moments[0], moments[1], moments[2], moments[3]))
        case GeoBox():
            return within_ranges(path, ranges_of_box(test))
        case GeoRadius():
            _, upper = within_ranges(path, candidates_of_radius(test))
            inside = ranges_inside(test)
            return NOTHING if inside is None else within_ranges(path, inside)[0], upper


def _same(expression: Expression) -> Pair:
    return expression, expression


def _of_prefix(path: Path, text: str) -> Pair:
    if not text:
        return _same(any_token(token(path, "string")))
    length = max(length for length in PREFIX_LENGTHS if length <= len(text))
    begins = any_token(token(path, "prefix", text[:length]))
    return (begins if length == len(text) else any_token(token(path, "text", text))), begins


def _except(any_kind: str, values: list[str], several: str) -> Pair:
    """A value of the kind that is none of these: sure where none of these is there."""
    others = no_token(*values)
    lower = all_of((any_token(any_kind), others))
    if not values:
        return lower, lower
    return lower, all_of((any_token(any_kind), any_of((others, any_token(several)))))


_Four = tuple[float | None, float | None, float | None, float | None]


def _of_range(path: Path, kind: Kind, bounds: _Four) -> Pair:
    """Any number within bounds (gt, gte, lt, lte), of the least and the largest one."""
    gt, gte, lt, lte = bounds
    is_there = any_token(has(path, kind))
    pairs: dict[str, list[Pair]] = {"above": [], "below": [], "least above": [], "most below": []}
    lows: tuple[tuple[Comparison, float | None], ...] = ((">", gt), (">=", gte))
    highs: tuple[tuple[Comparison, float | None], ...] = (("<", lt), ("<=", lte))
    for comparison, bound in lows:
        pairs["above"].append(_compared(path, kind, most(path, kind), comparison, bound))
        pairs["least above"].append(_compared(path, kind, least(path, kind), comparison, bound))
    for comparison, bound in highs:
        pairs["below"].append(_compared(path, kind, least(path, kind), comparison, bound))
        pairs["most below"].append(_compared(path, kind, most(path, kind), comparison, bound))
    lower = {name: all_of(one[0] for one in some) for name, some in pairs.items()}
    upper = {name: all_of(one[1] for one in some) for name, some in pairs.items()}
    may = all_of((is_there, upper["above"], upper["below"]))
    if upper["above"] == EVERYTHING or upper["below"] == EVERYTHING:
        return all_of((is_there, lower["above"], lower["below"])), may
    least_within = all_of((lower["least above"], lower["below"]))
    most_within = all_of((lower["above"], lower["most below"]))
    return all_of((is_there, any_of((least_within, most_within)))), may


def _compared(path: Path, kind: Kind, name: str, comparison: Comparison, bound: float | None) -> Pair:
    if bound is None:
        return _same(EVERYTHING)
    if isinf(bound):
        return _same(EVERYTHING if (bound > 0) == (comparison[0] == "<") else NOTHING)
    value, there = as_double(bound), has(path, kind)
    if abs(bound) < _EXACT_BELOW:
        return _same(Number(name, there, comparison, value))
    # Rounding keeps the order, but makes neighbours equal.
    strict: Comparison = "<" if comparison[0] == "<" else ">"
    loose: Comparison = "<=" if comparison[0] == "<" else ">="
    return Number(name, there, strict, value), Number(name, there, loose, value)


def _of_count(path: Path, test: ValuesCount) -> Pair:
    bounds = test.bounds
    lower, upper = _of_range(path, "length", (bounds.gt, bounds.gte, bounds.lt, bounds.lte))
    few = [any_token(token(path, fact)) for n, fact in ((0, "null"), (1, "scalar")) if _within(test, n)]
    return any_of((lower, *few)), any_of((upper, *few))


def _within(test: ValuesCount, n: int) -> bool:
    bounds = test.bounds
    return (
        (bounds.gt is None or n > bounds.gt)
        and (bounds.gte is None or n >= bounds.gte)
        and (bounds.lt is None or n < bounds.lt)
        and (bounds.lte is None or n <= bounds.lte)
    )
