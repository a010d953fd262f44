"""What may be asked of a collection: checks of query vectors and numbers."""

from math import inf, isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from nearlight.store.errors import InvalidQuery, shown
from nearlight.store.exact import Span
from nearlight.store.points import F32
from nearlight.store.validation import norms_of, scaled

MAX_LIMIT = 2**31 - 1


def checked_span(limit: int, offset: int, score_threshold: float | None) -> Span:
    """Which hits are wanted.

    Raises:
        InvalidQuery: a number is out of range.
    """
    check_number("limit", limit, 1)
    check_number("offset", offset, 0)
    if score_threshold is not None and not isfinite(score_threshold):
        raise InvalidQuery("score_threshold", str(score_threshold), "it must be a finite number")
    return Span(limit, offset, score_threshold)


def query_vectors(queries: npt.ArrayLike, dim: int) -> F32:
    """Queries (Q, dim) brought to unit length.

    Raises:
        InvalidQuery: not numbers, of another shape, not finite, or all zeros.
    """
    try:
        array = np.asarray(queries)
    except ValueError as error:
        raise InvalidQuery(
            "queries", "rows of different lengths", f"the collection's dim is {dim}"
        ) from error
    if array.dtype.kind not in "fiu":
        raise InvalidQuery("queries", f"of type {array.dtype}", "it must hold real numbers")
    if array.ndim != 2 or array.shape[1] != dim:
        raise InvalidQuery(
            "queries", f"of shape {array.shape}", f"it must be (Q, {dim}): the collection's dim is {dim}"
        )
    if array.dtype != np.float32:
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
    wide = array.astype(np.float64)  # (Q, D)
    norms = norms_of(wide)  # (Q,)
    if not all(0 < norm < inf for norm in norms.tolist()):  # quicker than numpy for the few that there are
        for fault, what, limit in (
            (~np.isfinite(norms), "not finite", "its values must be finite float32 numbers"),
            (norms == 0, "all zeros", "its length must not be zero"),
        ):
            if fault.any():
                raise InvalidQuery(f"queries[{int(fault.argmax())}]", what, limit)
    return scaled(wide, norms)


def check_number(name: str, value: Any, lowest: int) -> None:
    """Check an integer argument.

    Raises:
        InvalidQuery: it is none, below `lowest`, or too large.
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, np.integer))
        or not lowest <= value <= MAX_LIMIT
    ):
        raise InvalidQuery(name, shown(value), f"it must be an integer in {lowest}..{MAX_LIMIT}")
