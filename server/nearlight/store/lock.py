"""One process per data folder."""

import fcntl
import os
from pathlib import Path

from nearlight.store.errors import StoreLocked

LOCK_FILE = "store.lock"


class FolderLock:
    """An exclusive `flock` on a file of the folder; the kernel drops it however the process dies."""

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises:
            StoreLocked: another process, or another Store of this one, holds it.
        """
        path = folder / LOCK_FILE
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            pid = int(holder) if holder.isdigit() else None
            who = f"process {pid}" if pid is not None else "another process"
            if pid == os.getpid():
                who = f"this process ({pid})"
            raise StoreLocked(
                f"the data folder {folder} is open in {who}; close it there first", pid
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the lock up."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
