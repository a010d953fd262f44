"""Files that may change while the server runs."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

Signature = tuple[tuple[int, int, int], ...]

# How often a change is looked for, at most: a look is one stat() of each file.
LOOK_SECONDS = 1.0


class WatchedFiles:
    """Says when one of a few files has changed. There is no thread: whoever needs the content asks.

    Args:
        paths: the files.
        look_seconds: least time between two looks.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        look_seconds: float = LOOK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths = paths
        self._look_seconds = look_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._looked = clock()
        self._seen = self.signature()

    def signature(self) -> Signature:
        """What tells one content from another without reading it; zeros for a file that is gone."""
        return tuple(_signature(path) for path in self._paths)

    def have_changed(self) -> bool:
        """Whether a file has changed since the last call that said so; safe from any thread."""
        with self._lock:
            now = self._clock()
            if now - self._looked < self._look_seconds:
                return False
            self._looked = now
            found = self.signature()
            if found == self._seen:
                return False
            self._seen = found
            return True

    def look_again(self) -> None:
        """Report a change at the next look whatever happens until then: the content was half written."""
        with self._lock:
            self._seen = ()


def _signature(path: Path) -> tuple[int, int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)
