from typing import Any

import pytest

from nearlight.store.payloads import emptying, removing, setting


@pytest.mark.parametrize(
    ("payload", "values", "path", "replace", "expected"),
    [
        ({"a": 1, "b": 2}, {"b": 3, "c": 4}, (), False, {"a": 1, "b": 3, "c": 4}),
        ({"a": 1, "b": 2}, {"c": 4}, (), True, {"c": 4}),
        ({"a": {"x": 1}}, {"a": {"y": 2}}, (), False, {"a": {"y": 2}}),
        ({"a": {"x": 1}, "b": 1}, {"y": 2}, ("a",), False, {"a": {"x": 1, "y": 2}, "b": 1}),
        ({"a": {"x": 1}, "b": 1}, {"y": 2}, ("a",), True, {"a": {"y": 2}, "b": 1}),
        ({}, {"y": 2}, ("a", "b"), False, {"a": {"b": {"y": 2}}}),
        ({"a": 5}, {"y": 2}, ("a", "b"), False, {"a": {"b": {"y": 2}}}),
        ({"a": {"b": [1]}}, {"y": 2}, ("a", "b"), False, {"a": {"b": {"y": 2}}}),
        ({"": {"": 1}}, {"y": 2}, ("",), False, {"": {"": 1, "y": 2}}),
    ],
)
def test_keys_are_set(payload: Any, values: Any, path: Any, replace: bool, expected: Any) -> None:
    assert setting(values, path, replace)(payload) == expected


@pytest.mark.parametrize(
    ("payload", "paths", "expected"),
    [
        ({"a": 1, "b": 2}, [("a",)], {"b": 2}),
        ({"a": {"x": 1, "y": 2}}, [("a", "x"), ("nope",), ("a", "x", "deeper")], {"a": {"y": 2}}),
        ({"a": [1], "b.c": 3}, [("a", "x"), ("b", "c")], {"a": [1], "b.c": 3}),
    ],
)
def test_keys_are_removed(payload: Any, paths: Any, expected: Any) -> None:
    assert removing(paths)(payload) == expected


def test_everything_is_removed() -> None:
    assert emptying()({"a": 1}) == {}
