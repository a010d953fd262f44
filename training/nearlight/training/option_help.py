"""What the keys of a configuration mean, told from the source: nothing heavy is imported for a help page."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nearlight.training.catalogue import method_files

_LIMITS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


@dataclass(frozen=True, slots=True)
class Key:
    """One key as its section defines it."""

    name: str
    kind: str
    """Its type, and its limits."""
    default: str
    meaning: str


def keys_of_method(method: str) -> list[Key]:
    """Returns a method's own options, those it has from the method it builds on first."""
    files = method_files()
    trees = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in files.items()}
    classes = {
        node.name: node for tree in trees.values() for node in tree.body if isinstance(node, ast.ClassDef)
    }

    def options(owner: ast.ClassDef) -> dict[str, Key]:
        own = next((n for n in owner.body if isinstance(n, ast.ClassDef) and n.name == "Options"), None)
        if own is None:
            return {}
        found: dict[str, Key] = {}
        for base in own.bases:
            if (
                isinstance(base, ast.Attribute)
                and isinstance(base.value, ast.Name)
                and base.value.id in classes
            ):
                found = options(classes[base.value.id])
        for key in _keys(own):
            inherited = found.get(key.name)
            found[key.name] = Key(
                key.name, key.kind, key.default, key.meaning or (inherited.meaning if inherited else "")
            )
        return found

    return [k for n in trees[method].body if isinstance(n, ast.ClassDef) for k in options(n).values()]


def keys_of_runs() -> list[Key]:
    """Returns every key of a configuration but the methods' own, with the sections before their names."""
    file = Path(__file__).with_name("sections.py")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}

    def walk(section: str, prefix: str) -> Iterator[Key]:
        for key in _keys(classes[section]):
            kind = key.kind.removeprefix("tuple[").removesuffix(", ...]")
            if kind in classes:
                place = "0." if kind != key.kind else ""
                yield from walk(kind, f"{prefix}{key.name}.{place}")
            elif key.name != "options":
                yield Key(prefix + key.name, key.kind, key.default, key.meaning)

    return list(walk("RunConfig", ""))


def help_of_method(method: str) -> str:
    """Returns its own options as a Markdown list; empty where it has none."""
    lines = []
    for key in keys_of_method(method):
        flag = key.name.replace("_", "-")
        meaning = f": {key.meaning}" if key.meaning else ""
        lines.append(f"- `--{flag}` {key.kind}, default {key.default}{meaning}")
    return "\n\n**Its own options**\n\n" + "\n".join(lines) + "\n" if lines else ""


def print_keys() -> None:
    """Prints all keys of a run's configuration as a table."""
    from rich.console import Console
    from rich.table import Table

    note = "A method's recipe may set others: `--plan` and a run's config.json say what holds."
    table = Table("key", "type", "default", "meaning", caption=note)
    for key in keys_of_runs():
        table.add_row(key.name, key.kind, key.default, key.meaning)
    Console().print(table, markup=False)


def _keys(section: ast.ClassDef) -> Iterator[Key]:
    for place, node in enumerate(section.body):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        after = section.body[place + 1] if place + 1 < len(section.body) else None
        meaning = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            meaning = " ".join(str(after.value.value).split())
        kind = ast.unparse(node.annotation)
        if kind.startswith("Literal["):
            kind = kind.removeprefix("Literal[").removesuffix("]").replace("', '", "|").replace("'", "")
        default, limits = _default(node.value)
        yield Key(node.target.id, f"{kind} {limits}".strip(), default, meaning)


def _default(value: ast.expr | None) -> tuple[str, str]:
    """Returns a key's default and limits, as they are written."""
    if value is None:
        return "none", ""
    if not isinstance(value, ast.Call):
        return ast.unparse(value).strip("'"), ""
    limits = [
        f"{_LIMITS[k.arg]} {ast.unparse(k.value)}"
        for k in value.keywords
        if k.arg is not None and k.arg in _LIMITS
    ]
    default = ast.unparse(value.args[0]) if value.args else "see --plan"
    return default, ", ".join(limits)
