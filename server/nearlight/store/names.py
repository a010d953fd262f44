"""What a collection, or an alias of one, may be called."""

import re

from nearlight.store.errors import InvalidCollection, shown

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}")


def check_name(name: object, field: str) -> None:
    """Check a name.

    Raises:
        InvalidCollection: not 1 to 255 of A-Z a-z 0-9 . _ -, or a dot first.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        limit = "it must be 1 to 255 of A-Z a-z 0-9 . _ - and not start with a dot"
        raise InvalidCollection(field, shown(name), limit)
