"""Names and ids as Milvus takes them.

Milvus takes letters, digits and underscores in a name, ours have dots and dashes too: those, and underscores,
become `_` and their code. An id is a string key: `i` and 16 hexadecimal digits, or `s` and those of its UTF-8
bytes. So both kinds stay apart, sort as in the embedded store, and no quote of an id meets Milvus' language.
"""

import re

from nearlight.store.errors import InvalidCollection
from nearlight.store.ids import MAX_ID_BYTES
from nearlight.store.points import PointId

MAX_NAME_CHARS = 255
MAX_KEY_CHARS = 1 + 2 * MAX_ID_BYTES
_PLAIN = re.compile(r"[^A-Za-z0-9]")
_CODED = re.compile(r"_([0-9a-f]{2})")


def milvus_name(prefix: str, name: str, field: str = "name") -> str:
    """The name in Milvus.

    Raises:
        InvalidCollection: too long there.
    """
    coded = prefix + _PLAIN.sub(lambda found: f"_{ord(found[0]):02x}", name)
    if len(coded) > MAX_NAME_CHARS:
        limit = f"in milvus it takes {len(coded)} characters of at most {MAX_NAME_CHARS}"
        raise InvalidCollection(field, f"{len(name)} characters long", limit)
    return coded


def name_of(prefix: str, coded: str) -> str | None:
    """The name behind one in Milvus, None for what is not ours."""
    if not coded.startswith(prefix):
        return None
    return _CODED.sub(lambda found: chr(int(found[1], 16)), coded[len(prefix) :])


def milvus_key(point_id: PointId) -> str:
    """The key of an id."""
    return f"i{point_id:016x}" if isinstance(point_id, int) else f"s{point_id.encode().hex()}"


def id_of_key(key: str) -> PointId:
    """The id of a key."""
    return int(key[1:], 16) if key[0] == "i" else bytes.fromhex(key[1:]).decode()
