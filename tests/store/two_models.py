"""Two models of nothing: from a text to a vector of a space, so that tests know what must be stored."""

import json
import zlib

import numpy as np
import numpy.typing as npt

from nearlight.store import Collection, OtherVector, Point, Store, Target
from nearlight.store.validation import unit_rows

DIMS = {"old": 16, "new": 24}


def embed(space_id: str, text: str) -> npt.NDArray[np.float32]:
    """The unit vector (D,) of a text in a space; the dims of the spaces differ."""
    wide = np.random.default_rng([zlib.crc32(text.encode()), DIMS[space_id]]).standard_normal(DIMS[space_id])
    vector: npt.NDArray[np.float32] = unit_rows(wide[np.newaxis])[0]
    return vector


def point(collection: Collection, point_id: str, text: str, *, both: bool = True, keep: bool = True) -> Point:
    """A point as a server writes it: embedded into the space in use, if `both` into the other too."""
    info = collection.info
    other = info.other_space_id
    return Point(
        point_id,
        embed(info.space_id, text),
        {"text": text},
        original=text if keep else None,
        other=OtherVector(other, embed(other, text)) if both and other else None,
    )


def target(space_id: str) -> Target:
    return Target(space_id, DIMS[space_id])


def fill(store: Store, name: str, space_id: str, limit: int = 7, batches: int | None = None) -> None:
    """Do a server's and a client's part: embed what is kept, then what is wanted, by its payload."""
    while batches is None or batches > 0:
        texts = {one.seq: str(one.original) for one in store.upgrades.pending(name, 0, limit)}
        if not texts:
            found = store.upgrades.wanted(name, 0, limit)
            texts = {one.seq: json.loads(one.payload)["text"] for one in found}
        if not texts:
            return
        store.upgrades.write(name, {seq: embed(space_id, text) for seq, text in texts.items()}, {})
        batches = None if batches is None else batches - 1
