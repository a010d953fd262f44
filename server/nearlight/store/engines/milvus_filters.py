"""Expressions in Milvus' language. No text of a user enters it: only hashes, numbers and hexadecimal ids."""

from collections.abc import Iterable

from nearlight.store.engines.expressions import (
    AllOf,
    AnyOf,
    AnyToken,
    AtLeast,
    Expression,
    IdIn,
    IdNotIn,
    NoToken,
    Number,
    all_of,
    any_of,
    at_least,
)
from nearlight.store.engines.milvus_names import milvus_key
from nearlight.store.errors import InvalidQuery

MAX_TERMS = 4000
_NEVER = 'key == ""'  # no key is empty


def milvus_filter(expression: Expression) -> str:
    """The filter of an expression; "" where it always holds.

    Raises:
        InvalidQuery: `min_should` of so many conditions that the filter would be too long.
    """
    if expression == AllOf(()):
        return ""
    text = _text(expression)
    if text.count("(") > 2 * MAX_TERMS:
        limit = f"milvus cannot count; written out it takes more than {MAX_TERMS} conditions"
        raise InvalidQuery("filter", "with min_should of many conditions", limit)
    return text


def _text(expression: Expression) -> str:
    match expression:
        case AnyToken(tokens):
            return f"array_contains_any(tokens, {_list(tokens)})"
        case NoToken(tokens):
            return f"not array_contains_any(tokens, {_list(tokens)})"
        case Number(name, _, comparison, value):
            return f'numbers["{name}"] {comparison} {_literal(value)}'
        case IdIn(ids):
            return f"key in {_list(map(milvus_key, ids))}"
        case IdNotIn(ids):
            return f"key not in {_list(map(milvus_key, ids))}"
        case AllOf(parts):
            return _joined(" and ", parts) if parts else f"not ({_NEVER})"
        case AnyOf(parts):
            return _joined(" or ", parts) if parts else _NEVER
        case AtLeast():
            return _text(_spelled_out(expression, [MAX_TERMS]))


def _spelled_out(expression: AtLeast, left: list[int]) -> Expression:
    """The same with `and` and `or`: with the first and one less of the rest, or as many of the rest."""
    left[0] -= 1
    if left[0] < 0:
        limit = f"milvus cannot count; written out it takes more than {MAX_TERMS} conditions"
        raise InvalidQuery("filter.min_should", str(expression.n), limit)
    first, *rest = expression.parts
    fewer, same = at_least(expression.n - 1, rest), at_least(expression.n, rest)
    if isinstance(fewer, AtLeast):
        fewer = _spelled_out(fewer, left)
    if isinstance(same, AtLeast):
        same = _spelled_out(same, left)
    return any_of((all_of((first, fewer)), same))


def _joined(word: str, parts: Iterable[Expression]) -> str:
    return word.join(f"({_text(part)})" for part in parts)


def _list(texts: Iterable[str]) -> str:
    return "[" + ", ".join(f'"{text}"' for text in sorted(texts)) + "]"


def _literal(value: float) -> str:
    """A double as Milvus reads it: always with a point, and as exact as it is."""
    text = repr(value)
    if "e" in text and "." not in text:
        mantissa, _, exponent = text.partition("e")
        return f"{mantissa}.0e{exponent}"
    return text
