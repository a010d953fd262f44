"""Changes to a payload: set keys, replace it, remove keys."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from nearlight.store.filters.conditions import Path

Change: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]
"""Gets a payload that it may change, returns what becomes of it."""


def setting(values: Mapping[str, Any], path: Path, replace: bool) -> Change:
    """The change that sets keys.

    Args:
        values: what is set.
        path: the object to set it in, made where it is missing; a value there that is no object makes way.
            Empty: the payload itself.
        replace: the object becomes `values`; else its other keys stay.
    """

    def change(payload: dict[str, Any]) -> dict[str, Any]:
        root: dict[str, Any] = {"": payload}
        parent, last = root, ""
        for part in path:
            if not isinstance(parent[last], dict):
                parent[last] = {}
            parent, last = parent[last], part
            parent.setdefault(last, {})
        stays = {} if replace or not isinstance(parent[last], dict) else parent[last]
        parent[last] = {**stays, **values}
        made: dict[str, Any] = root[""]
        return made

    return change


def removing(paths: Sequence[Path]) -> Change:
    """The change that removes keys; those that are missing are no error."""

    def change(payload: dict[str, Any]) -> dict[str, Any]:
        for path in paths:
            inside: Any = payload
            for part in path[:-1]:
                inside = inside.get(part) if isinstance(inside, dict) else None
            if isinstance(inside, dict):
                inside.pop(path[-1], None)
        return payload

    return change


def emptying() -> Change:
    """The change that removes everything."""
    return lambda payload: {}
