"""Filters as values: plain, frozen, comparable.

A list at a payload key stands for its items: a test holds where any of them passes it. Lists inside lists are
not opened. A key that is missing never passes a test. Types must agree: `1`, `1.0`, `True` and `"1"` are four
different values to the matches; to a `Range` the first two are numbers.
"""

from dataclasses import dataclass
from typing import TypeAlias

from nearlight.store.points import PointId

Path: TypeAlias = tuple[str, ...]
"""Where a value is in the payload: the keys from the outermost object inwards."""


@dataclass(frozen=True, slots=True)
class Keyword:
    """A string equal to this one, byte for byte."""

    value: str


@dataclass(frozen=True, slots=True)
class Integer:
    """A JSON integer equal to this one."""

    value: int


@dataclass(frozen=True, slots=True)
class Boolean:
    """This very truth value; 0 and 1 are numbers."""

    value: bool


@dataclass(frozen=True, slots=True)
class AnyKeyword:
    """A string equal to any of these."""

    values: frozenset[str]


@dataclass(frozen=True, slots=True)
class AnyInteger:
    """A JSON integer equal to any of these."""

    values: frozenset[int]


@dataclass(frozen=True, slots=True)
class ExceptKeyword:
    """A string, and none of these."""

    values: frozenset[str]


@dataclass(frozen=True, slots=True)
class ExceptInteger:
    """A JSON integer, and none of these."""

    values: frozenset[int]


@dataclass(frozen=True, slots=True)
class Prefix:
    """A string that begins so, byte for byte."""

    value: str


@dataclass(frozen=True, slots=True)
class Range:
    """A number within bounds, none of them NaN; a bound that is None does not bind."""

    gt: float | None = None
    gte: float | None = None
    lt: float | None = None
    lte: float | None = None


@dataclass(frozen=True, slots=True)
class IntegerRange:
    """A JSON integer within bounds of 64 bits, exactly."""

    gt: int | None = None
    gte: int | None = None
    lt: int | None = None
    lte: int | None = None


@dataclass(frozen=True, slots=True)
class DatetimeRange:
    """A string that is a moment within bounds; all of them as `instants` reads them."""

    gt: str | None = None
    gte: str | None = None
    lt: str | None = None
    lte: str | None = None


@dataclass(frozen=True, slots=True)
class ValuesCount:
    """How many values the key holds: the length of a list, 0 for null, 1 for anything else."""

    bounds: IntegerRange


@dataclass(frozen=True, slots=True)
class GeoPoint:
    """A place: `lat` -90 to 90, `lon` -180 to 180, both in degrees."""

    lat: float
    lon: float


@dataclass(frozen=True, slots=True)
class GeoRadius:
    """An object `{"lat": …, "lon": …}` at most `radius_m` metres from `center`, along the sphere."""

    center: GeoPoint
    radius_m: float


@dataclass(frozen=True, slots=True)
class GeoBox:
    """An object `{"lat": …, "lon": …}` within the box, edges included.

    The box crosses the 180th meridian where the longitude of `top_left` is the larger one.
    """

    top_left: GeoPoint
    bottom_right: GeoPoint


Bounds: TypeAlias = Range | IntegerRange | DatetimeRange
Match: TypeAlias = (
    Keyword | Integer | Boolean | AnyKeyword | AnyInteger | ExceptKeyword | ExceptInteger | Prefix
)
ValueTest: TypeAlias = Match | Bounds | GeoRadius | GeoBox
"""A test of one value."""


@dataclass(frozen=True, slots=True)
class Field:
    """The value at a key passes a test."""

    path: Path
    test: ValueTest | ValuesCount


@dataclass(frozen=True, slots=True)
class HasId:
    """The point's id is one of these."""

    ids: frozenset[PointId]


@dataclass(frozen=True, slots=True)
class IsEmpty:
    """The key is missing, null, or an empty list."""

    path: Path


@dataclass(frozen=True, slots=True)
class IsNull:
    """The key is there and null."""

    path: Path


@dataclass(frozen=True, slots=True)
class Filter:
    """Passes where every `must` holds, no `must_not` holds, and enough of `should` hold.

    Attributes:
        must: all of them.
        should: at least `min_should` of them.
        must_not: none of them.
        min_should: None means 1 where there is any `should`, else 0. More than there are: nothing passes.
    """

    must: "tuple[Condition, ...]" = ()
    should: "tuple[Condition, ...]" = ()
    must_not: "tuple[Condition, ...]" = ()
    min_should: int | None = None

    @property
    def n_should(self) -> int:
        """How many of `should` must hold."""
        return min(1, len(self.should)) if self.min_should is None else self.min_should


Condition: TypeAlias = Field | HasId | IsEmpty | IsNull | Filter
