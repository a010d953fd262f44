"""Ctrl-C and SIGTERM as a wish that is granted between two steps."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C or SIGTERM into a flag, so that a step ends before the run stops."""
    flagged: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if flagged:
            raise KeyboardInterrupt
        flagged.append(number)

    former = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            former[number] = signal.signal(number, note)
    except ValueError:  # not the main thread: the caller handles signals
        pass
    try:
        yield lambda: bool(flagged)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
