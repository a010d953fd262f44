"""The plan of the house: who may import whom, what a room may not be called, how large a file may be."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parents[1]
ROOTS = ("proto", "export", "server", "training", "clients/python")
MAY_IMPORT = {
    "v1": {"v1"},
    "bundle": {"bundle"},
    "export": {"export", "bundle", "training"},
    "store": {"store"},
    "server": {"server", "v1", "bundle", "store"},
    "training": {"training", "bundle"},
    "client": {"client", "v1"},
}
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "misc", "core", "base", "manager"}
MAX_LINES = 320

# What each room must not need, whatever it imports of its own.
FORBIDDEN_MODULES = {
    "nearlight.client": ["torch", "onnxruntime", "faiss", "PIL", "pydantic", "rich", "typer"],
    "nearlight.bundle": ["torch", "onnx", "onnxruntime", "grpc"],
    "nearlight.store": ["torch", "onnxruntime", "grpc", "PIL"],
    "nearlight.server.serving": ["torch", "onnx", "open_clip", "opentelemetry.sdk", "matplotlib"],
    "nearlight.training.commands": ["torch", "open_clip", "onnxruntime"],
    "nearlight.training.experiment_commands": ["torch", "open_clip", "onnxruntime"],
    "nearlight.export.command": ["torch", "onnxruntime"],
    "nearlight.server.command": ["onnxruntime", "faiss", "torch"],
}


def sources() -> list[Path]:
    files = [f for root in ROOTS for f in (HOUSE / root / "nearlight").rglob("*.py")]
    return sorted(f for f in files if "_pb2" not in f.name)


def room_of(file: Path) -> str:
    parts = file.relative_to(HOUSE).parts
    return parts[parts.index("nearlight") + 1]


def imported(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_rooms_import_only_along_the_plan() -> None:
    wrong = [
        f"{file.relative_to(HOUSE)} imports {name}"
        for file in sources()
        for name in imported(file)
        if name.startswith("nearlight.") and name.split(".")[1] not in MAY_IMPORT[room_of(file)]
    ]
    assert not wrong


def test_every_room_is_known_and_typed() -> None:
    rooms = {room_of(f) for f in sources()}
    assert rooms == set(MAY_IMPORT)
    for root in ROOTS:
        assert not (HOUSE / root / "nearlight" / "__init__.py").exists(), f"{root}: hides the other rooms"
        for room in (HOUSE / root / "nearlight").iterdir():
            if room.is_dir() and room.name != "__pycache__":
                assert (room / "py.typed").exists(), f"{room} is not typed"


def test_nothing_is_named_after_a_drawer() -> None:
    assert not [f for f in sources() if f.stem in FORBIDDEN_NAMES or f.parent.name in FORBIDDEN_NAMES]


def test_files_stay_small() -> None:
    sizes = {str(f.relative_to(HOUSE)): len(f.read_text(encoding="utf-8").splitlines()) for f in sources()}
    assert not {name: lines for name, lines in sizes.items() if lines > MAX_LINES}


def test_the_top_level_is_as_planned() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=HOUSE, capture_output=True, text=True, check=False
    ).stdout.splitlines()
    if not tracked:
        pytest.skip("not a git checkout")
    top = {name.split("/")[0] for name in tracked if not name.startswith(".")}
    planned = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"}
    assert top <= planned | {"proto", "server", "training", "export", "clients", "tests"}


@pytest.mark.parametrize("module", FORBIDDEN_MODULES)
def test_a_light_import_stays_light(module: str) -> None:
    script = (
        f"import sys, importlib; importlib.import_module({module!r}); "
        f"print([m for m in {FORBIDDEN_MODULES[module]!r} if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
