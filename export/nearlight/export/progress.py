"""How far long work is: told by those who do it, shown by whoever wants to."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Report = Callable[[str, int, int], None]


def _silent(what: str, done: int, total: int) -> None:
    """Nobody looks."""


_report: ContextVar[Report] = ContextVar("report", default=_silent)


def tell(what: str, done: int, total: int) -> None:
    """Say how much of `total` is done of something."""
    _report.get()(what, done, total)


@contextmanager
def told_to(report: Report) -> Iterator[None]:
    """Pass on to `report` what is told inside."""
    token = _report.set(report)
    try:
        yield
    finally:
        _report.reset(token)


@contextmanager
def bars() -> Iterator[None]:
    """Show a bar for each work on standard error, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as shown:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what)
            shown.update(tasks[what], completed=done, total=total)
            if done >= total:
                shown.remove_task(tasks.pop(what))

        with told_to(show):
            yield
