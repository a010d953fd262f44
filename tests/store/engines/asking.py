"""Searches of a collection as the services ask them."""

from typing import Any

import numpy.typing as npt

from nearlight.store import Filter, Hit, VectorCollection


def found(collection: VectorCollection, queries: npt.ArrayLike, **options: Any) -> list[list[Hit]]:
    return collection.answer(queries, **options).hits


def matching(
    collection: VectorCollection, queries: npt.ArrayLike, filter: Filter, **options: Any
) -> tuple[list[list[Hit]], int]:
    answer = collection.answer(queries, filter, **options)
    return answer.hits, answer.n_matching
