"""What an engine keeps beside a payload so that it can filter as the embedded store does.

Engines disagree about `1`, `1.0`, `true` and `"1"`, about lists and about missing keys. So they never see the
payload's own values: it is kept as text, and beside it stand

- tokens: short hashes of facts, such as "the string at a.b is this one". To have a fact or not is the same in
  every engine;
- numbers: the least and the largest number, moment (microseconds since 1970 UTC), latitude and longitude at a
  key, and the length of a list, as doubles.

The hash keeps apart what users may write into keys and values and what an engine's language means.
"""

import json
from base64 import b32encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Literal

from nearlight.store.filters.checks import MAX_KEY_PARTS
from nearlight.store.filters.evaluate import place_of
from nearlight.store.filters.instants import instant_us

PREFIX_LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # characters
_LARGEST = 1.7976931348623157e308

Path = tuple[str, ...]
Fact = Literal["null", "present", "scalar", "string", "strings", "prefix", "bool", "integer", "integers"]
"""`strings` and `integers`: at least two different ones."""
MoreFacts = Literal["text", "whole", "float", "places", "number", "moment", "place", "length"]
"""`text` and `whole`: this very string or integer. The last four: there are numbers of this kind."""
Kind = Literal["number", "moment", "lat", "lon", "length"]


@dataclass(slots=True)
class Facets:
    """What an engine filters by.

    Attributes:
        tokens: facts that hold.
        numbers: by name, as `least` and `most` give it.
    """

    tokens: set[str] = field(default_factory=set)
    numbers: dict[str, float] = field(default_factory=dict)


def facets_of(payload: Mapping[str, Any]) -> Facets:
    """The facets of a payload."""
    facets = Facets()
    _add_object(facets, payload, ())
    return facets


@lru_cache(maxsize=65_536)
def token(path: Path, fact: Fact | MoreFacts, value: str = "") -> str:
    """The token of a fact: 16 of a-z and 2-7."""
    return _hash((fact, value, *path))


def least(path: Path, kind: Kind) -> str:
    """The name of the smallest number of a kind at a key."""
    return f"a{token(path, _HAS[kind])}{_LETTER[kind]}"


def most(path: Path, kind: Kind) -> str:
    """The name of the largest number of a kind at a key."""
    return f"z{token(path, _HAS[kind])}{_LETTER[kind]}"


def has(path: Path, kind: Kind) -> str:
    """The token that says that there are numbers of a kind at a key."""
    return token(path, _HAS[kind])


def as_double(number: float) -> float:
    """The nearest double, the largest one for integers beyond."""
    try:
        return float(number)
    except OverflowError:
        return _LARGEST if number > 0 else -_LARGEST


_HAS: dict[Kind, MoreFacts] = {
    "number": "number",
    "moment": "moment",
    "lat": "place",
    "lon": "place",
    "length": "length",
}
_LETTER: dict[Kind, str] = {"number": "n", "moment": "t", "lat": "y", "lon": "x", "length": "l"}


def _hash(parts: tuple[str, ...]) -> str:
    digest = blake2b(json.dumps(parts).encode(), digest_size=10).digest()
    return b32encode(digest).decode().lower()


def _add_object(facets: Facets, value: Mapping[str, Any], path: Path) -> None:
    for key, inner in value.items():
        here = (*path, key)
        _add_value(facets, inner, here)
        if isinstance(inner, Mapping) and len(here) < MAX_KEY_PARTS:
            _add_object(facets, inner, here)


def _add_value(facets: Facets, value: Any, path: Path) -> None:
    if value is None:
        facets.tokens.add(token(path, "null"))
    elif value != []:
        facets.tokens.add(token(path, "present"))
    if isinstance(value, list):
        _add_numbers(facets, [len(value)], path, "length")
    elif value is not None:
        facets.tokens.add(token(path, "scalar"))
    items = value if isinstance(value, list) else [value]
    _add_strings(facets, {item for item in items if isinstance(item, str)}, path)
    for item in items:
        if isinstance(item, bool):
            facets.tokens.add(token(path, "bool", str(item)))
    numbers = [item for item in items if isinstance(item, int | float) and not isinstance(item, bool)]
    _add_integers(facets, {item for item in numbers if isinstance(item, int)}, path)
    if any(isinstance(item, float) for item in numbers):
        facets.tokens.add(token(path, "float"))
    _add_numbers(facets, [as_double(number) for number in numbers], path, "number")
    places = [place for place in map(place_of, items) if place is not None]
    _add_numbers(facets, [place.lat for place in places], path, "lat")
    _add_numbers(facets, [place.lon for place in places], path, "lon")
    if len(places) > 1:
        facets.tokens.add(token(path, "places"))


def _add_strings(facets: Facets, strings: set[str], path: Path) -> None:
    if not strings:
        return
    facets.tokens.add(token(path, "string"))
    if len(strings) > 1:
        facets.tokens.add(token(path, "strings"))
    for text in strings:
        # Not through the cache: most values come once.
        facets.tokens.add(_hash(("text", text, *path)))
        facets.tokens |= {_hash(("prefix", start, *path)) for start in _prefixes(text)}
    moments = [moment for moment in map(instant_us, strings) if moment is not None]
    _add_numbers(facets, [float(moment) for moment in moments], path, "moment")


def _add_integers(facets: Facets, integers: set[int], path: Path) -> None:
    if not integers:
        return
    facets.tokens.add(token(path, "integer"))
    if len(integers) > 1:
        facets.tokens.add(token(path, "integers"))
    facets.tokens |= {token(path, "whole", str(number)) for number in integers}


def _add_numbers(facets: Facets, numbers: Sequence[float], path: Path, kind: Kind) -> None:
    if numbers:
        facets.tokens.add(has(path, kind))
        facets.numbers[least(path, kind)] = float(min(numbers))
        facets.numbers[most(path, kind)] = float(max(numbers))


def _prefixes(text: str) -> Iterator[str]:
    return (text[:length] for length in PREFIX_LENGTHS if length <= len(text))
