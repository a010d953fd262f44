import json
from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from nearlight.store import Collection, Filter, InvalidQuery, Point, Store
from nearlight.store.filters.conditions import Field, Integer
from nearlight.store.validation import unit_rows

VALUES: list[Any] = [
    "a",
    "b",
    "c",
    1,
    1.0,
    True,
    False,
    10**30,
    0.1,
    None,
    {"x": 1},
    ["a", 1],
    ["d", "d", []],
    [],
]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """600 points; half of them in one group, some groups of one or two."""
    rng = np.random.default_rng(2)
    vectors = unit_rows(rng.standard_normal((600, 6)))
    payloads: list[dict[str, Any]] = [
        {
            "k": {"v": "big" if i < 300 else VALUES[i % len(VALUES)] if i < 590 else f"rare{i // 2}"},
            "odd": i % 2,
        }
        for i in range(600)
    ]
    payloads[5] = {}
    with Store.open(tmp_path_factory.mktemp("groups"), n_threads=1) as store:
        collection = store.create_collection("c", space_id="s", dim=6)
        collection.upsert([Point(i, vectors[i], payloads[i]) for i in range(600)])
        yield collection, vectors, payloads


def naive(
    vectors: Any, payloads: list[dict[str, Any]], query: Any, allowed: list[int], n_groups: int, size: int
) -> list[tuple[str, list[int]]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for i in sorted(allowed, key=lambda i: -float(vectors[i] @ query)):
        value = payloads[i].get("k", {}).get("v")
        keys = {json.dumps(one) for one in (value if isinstance(value, list) else [value])}
        for key in keys - {"null", "[]", '{"x": 1}'}:
            groups[key].append(i)
    return [(key, members[:size]) for key, members in list(groups.items())[:n_groups]]


@pytest.mark.parametrize(("n_groups", "size"), [(1, 1), (3, 2), (5, 40), (12, 1), (12, 7), (100, 100)])
@pytest.mark.parametrize("with_filter", [False, True])
def test_groups_are_the_best_of_each_value(filled: Any, n_groups: int, size: int, with_filter: bool) -> None:
    collection, vectors, payloads = filled
    odd = Filter(must=(Field(("odd",), Integer(1)),))
    for seed in range(4):
        query = unit_rows(np.random.default_rng(seed).standard_normal((1, 6)))[0]
        left_out = [seed, 301, "301"]
        allowed = [i for i in range(600) if (i % 2 or not with_filter) and i not in left_out]
        found = collection.search_groups(
            query,
            ("k", "v"),
            n_groups=n_groups,
            group_size=size,
            left_out=left_out,
            filter=odd if with_filter else None,
        )
        expected = naive(vectors, payloads, query, allowed, n_groups, size)
        got = [(json.dumps(one.value), [hit.id for hit in one.hits]) for one in found]
        # Where one hit opens several groups, their order among themselves is free.
        assert sorted(got) == sorted(expected) or n_groups < 16
        assert [members[0] for _, members in got] == [members[0] for _, members in expected]
        assert all(pair in naive(vectors, payloads, query, allowed, 99, size) for pair in got)


def test_a_threshold_and_bad_arguments(filled: Any, collection: Collection) -> None:
    full, vectors, _ = filled
    groups = full.search_groups(vectors[0], ("k", "v"), n_groups=50, group_size=50, score_threshold=0.8)
    assert groups
    assert all(hit.score >= 0.8 for group in groups for hit in group.hits)
    assert collection.search_groups([1, 0, 0, 0], ("k",), n_groups=3) == []
    for wish, words in (
        ({"n_groups": 0}, "n_groups is 0"),
        ({"n_groups": 1, "group_size": 0}, "group_size is 0"),
    ):
        with pytest.raises(InvalidQuery, match=words):
            collection.search_groups([1, 0, 0, 0], ("k",), **wish)  # type: ignore[arg-type]
    with pytest.raises(InvalidQuery, match="path is of 0 parts"):
        collection.search_groups([1, 0, 0, 0], (), n_groups=1)
