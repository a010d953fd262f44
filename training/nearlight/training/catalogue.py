"""The methods there are, told from their files; nothing heavy is imported to name them."""

import ast
from pathlib import Path


def method_files() -> dict[str, Path]:
    """Returns the files of all methods by id, sorted."""
    folder = Path(__file__).parent / "methods"
    return {f.stem.replace("_", "-"): f for f in sorted(folder.glob("*.py")) if f.stem != "__init__"}


def method_line(file: Path) -> str:
    """Returns the first line of a method's file: its name and its paper."""
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def list_methods() -> None:
    """Prints each method with its paper and what its recipe changes."""
    from rich.console import Console
    from rich.table import Table

    from nearlight.training.config import check_config
    from nearlight.training.method import find_method

    table = Table("method", "paper", "recipe", show_lines=True)
    for name, file in method_files().items():
        found = find_method(name)
        config = check_config({**found.recipe, "method": name})
        section = config.optimiser
        length = f"{config.epochs:g} epochs" if config.epochs else f"{config.steps} steps"
        own = ", ".join(f"{key} {value}" for key, value in config.options.items())
        model = config.encoder.name if found.towers_kind == "encoder" else "two towers"
        rate = f"{section.lr:g}" + (f" for {section.lr_batch_size}" if section.lr_batch_size else "")
        line = f"{model}, {length} of {config.batch_size}, {section.name} lr {rate}"
        table.add_row(name, method_line(file), f"{line}\n{own}" if own else line)
    Console().print(table)
