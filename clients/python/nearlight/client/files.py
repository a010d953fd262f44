"""Reads image files, and refuses what only bears such a name: pipes, devices, folders, endless files."""

from __future__ import annotations

import errno
import os
import stat

# Far above what any server accepts (its own limit is smaller), far below what hurts here.
MAX_IMAGE_FILE_BYTES = 2**30


def read_image_file(path: str | os.PathLike[str]) -> tuple[bytes, os.stat_result]:
    """Returns a regular file's bytes with its size and times.

    Raises:
        OSError: it cannot be read, is no regular file, or has more than MAX_IMAGE_FILE_BYTES. Its `strerror`
            says which.
    """
    # Without O_NONBLOCK, opening a named pipe waits for a writer: for ever.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            code = errno.EISDIR if stat.S_ISDIR(found.st_mode) else errno.EINVAL
            raise OSError(code, "Is a directory" if code == errno.EISDIR else "not a regular file", str(path))
        if found.st_size > MAX_IMAGE_FILE_BYTES:
            reason = f"the file has {found.st_size} bytes; the limit is {MAX_IMAGE_FILE_BYTES}"
            raise OSError(errno.EFBIG, reason, str(path))
        return file.read(), found
