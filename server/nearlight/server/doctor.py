"""`nearlight doctor`."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer


@dataclass(slots=True)
class Report:
    """What was looked at, and what was wrong."""

    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def doctor(
    data: Annotated[Path, typer.Option(help="Folder of the collections, of no running server.")] = Path(
        "nearlight-data"
    ),
    sample: Annotated[
        int, typer.Option(min=0, help="Points of a collection that must find themselves.")
    ] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Check a data folder: the database's pages, every point, vector and index of every collection.

    Nothing is changed. For a running server use `nearlight collections verify`. Exit codes: 0 all is well,
    1 there are problems, 4 the folder cannot be opened.

    **Examples**

    - `nearlight doctor`
    - `nearlight doctor --data ~/nearlight-data --json`
    """
    from nearlight.store import StoreError

    if not data.is_dir():
        typer.echo(f"error: there is no folder {data}; name one with --data", err=True)
        raise typer.Exit(4)
    try:
        report = examine(data, sample)
    except StoreError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(4) from None
    if as_json:
        typer.echo(json.dumps({**report.facts, "problems": report.problems}, indent=2))
    else:
        show(report)
    raise typer.Exit(1 if report.problems else 0)


def examine(folder: Path, sample: int) -> Report:
    """Look at everything.

    Raises:
        StoreError: the folder cannot be opened.
    """
    import sqlite3

    import faiss

    from nearlight.store import Store

    report = Report({"folder": str(folder), "sqlite": sqlite3.sqlite_version, "faiss": faiss.__version__})
    n_database = sum(file.stat().st_size for file in folder.glob("store.sqlite3*"))
    n_free = shutil.disk_usage(folder).free
    report.facts |= {"database_bytes": n_database, "free_bytes": n_free}
    if n_free < n_database / 10:
        report.problems.append(f"the disk is nearly full: {n_free} bytes are free")
    collections: dict[str, Any] = {}
    with Store.open(folder) as store:
        report.problems += [f"database: {line}" for line in store.damaged_pages()]
        for info in store.collections():
            found = store.collection(info.name).verify(sample)
            report.problems += [f"{info.name}: {one.kind}: {one.message}" for one in found.problems]
            collections[info.name] = {"points": found.n_points, "problems": len(found.problems)}
    report.facts["collections"] = collections
    return report


def show(report: Report) -> None:
    """Print a report for people."""
    for name, value in report.facts.items():
        if name != "collections":
            typer.echo(f"{name:15} {value}")
    for name, found in report.facts["collections"].items():
        state = f"{found['problems']} problems" if found["problems"] else "ok"
        typer.echo(f"collection      {name}: {found['points']} points, {state}")
    for problem in report.problems:
        typer.echo(f"problem: {problem}")
    typer.echo("all is well" if not report.problems else f"{len(report.problems)} problems")
