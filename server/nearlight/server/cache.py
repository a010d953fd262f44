"""Vectors by the content they were made of: what was embedded before is not embedded again."""

import asyncio
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from nearlight.bundle.image import ImageProfile
from nearlight.server.call import Embedded, Input, Lane, Outcome
from nearlight.server.models import LoadedModel

# What an entry takes besides the numbers of its vector: key, array and dictionary. Measured: 330 to 370.
ENTRY_BYTES = 384
# Hashing more than this would hold up the event loop: about a millisecond.
HASH_INLINE_BYTES = 1024 * 1024

Key = bytes
# With its perceptual hash it is another answer.
_IMAGE_KINDS: dict[tuple[ImageProfile, bool], bytes] = {
    ("exact", False): b"I",
    ("fast", False): b"F",
    ("exact", True): b"H",
    ("fast", True): b"G",
}


@dataclass(frozen=True, slots=True)
class CacheUse:
    """How a call uses the cache.

    Args:
        read: take vectors that are known.
        write: remember the vectors made.
    """

    read: bool = True
    write: bool = True


@dataclass(slots=True, eq=False)
class Flight:
    """A vector that a call is computing, and who else waits for it.

    Args:
        lane: it waits in.
        followers: told the outcome, or None where the call gave up.
    """

    lane: Lane
    followers: list["asyncio.Future[Outcome | None]"] = field(default_factory=list)


class VectorCache:
    """Vectors of late, bounded in bytes; the least recently used goes first. May be used from any thread.

    Args:
        max_bytes: of all entries together, at least 1.
    """

    def __init__(self, max_bytes: int) -> None:
        self.hits = 0
        self.misses = 0
        self.used_bytes = 0
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, Embedded] = OrderedDict()
        self._flights: dict[Key, Flight] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def claim(self, key: Key, lane: Lane) -> "Embedded | asyncio.Future[Outcome | None] | Flight | None":
        """What there is for this content; called from the event loop.

        Returns:
            The vector; or the future outcome of a call that computes it now; or a flight, when the caller is
            the first and must compute it and `answer` or `abandon` it; or None: compute it alone, because the
            call that does so now waits in the bulk lane and this one must not.
        """
        with self._lock:
            known = self._kept.get(key)
            if known is not None:
                self._kept.move_to_end(key)
                self.hits += 1
                return known
            flight = self._flights.get(key)
            if flight is None:
                self.misses += 1
                flight = self._flights[key] = Flight(lane)
                return flight
            if flight.lane == "bulk" and lane != "bulk":
                self.misses += 1
                return None
            self.hits += 1
            future: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()
            flight.followers.append(future)
            return future

    def answer(self, key: Key, flight: Flight | None, outcome: Outcome, *, keep: bool) -> None:
        """A vector was made, or could not be; errors are told to followers but never kept."""
        if isinstance(outcome, Embedded):
            # A copy: the outcome's vector is a view that would keep its whole batch in memory.
            vector = outcome.vector.copy()
            vector.setflags(write=False)
            outcome = replace(outcome, vector=vector)
        with self._lock:
            if keep and isinstance(outcome, Embedded):
                self._keep(key, outcome)
        self._land(key, flight, outcome)

    def abandon(self, key: Key, flight: Flight) -> None:
        """The call that computes this gives up; without effect once it was answered."""
        self._land(key, flight, None)

    def _land(self, key: Key, flight: Flight | None, outcome: Outcome | None) -> None:
        with self._lock:
            if flight is None or self._flights.get(key) is not flight:
                return
            del self._flights[key]
        for future in flight.followers:
            try:
                future.get_loop().call_soon_threadsafe(_tell, future, outcome)
            except RuntimeError:  # the loop is closed: nobody is left to tell
                return

    def _keep(self, key: Key, embedded: Embedded) -> None:
        size = embedded.vector.nbytes + ENTRY_BYTES
        if key in self._kept or size > self._max_bytes:
            return
        self._kept[key] = embedded
        self.used_bytes += size
        while self.used_bytes > self._max_bytes:
            _, old = self._kept.popitem(last=False)
            self.used_bytes -= old.vector.nbytes + ENTRY_BYTES


def _tell(future: "asyncio.Future[Outcome | None]", outcome: Outcome | None) -> None:
    if not future.done():
        future.set_result(outcome)


async def keys_of(model: LoadedModel, inputs: Sequence[Input]) -> list[Key]:
    """What the vector of each input depends on, and nothing else, hashed.

    That is the model as it was loaded (its space, but also its name, precision and moment of loading: two
    models of one space need not give the same bits), the tower, how an image is prepared, and every byte of
    the content. SHA-256: nobody can make another image or text with the key of this one.
    """
    loaded = (model.space_id, model.name, model.manifest.precision, model.loaded_unix_ms)
    prefix = hashlib.sha256(repr(loaded).encode()).digest()

    def hash_all() -> list[Key]:
        return [_key(prefix, item, item.profile or model.image_profile) for item in inputs]

    if sum(len(item.content) for item in inputs) > HASH_INLINE_BYTES:
        return await asyncio.to_thread(hash_all)
    return hash_all()


def _key(prefix: bytes, item: Input, profile: ImageProfile) -> Key:
    content = item.content.encode() if isinstance(item.content, str) else item.content
    # Prefix and kind have fixed lengths: no content can pass for another's prefix.
    kind = b"T" if item.kind == "text" else _IMAGE_KINDS[profile, item.hashed]
    digest = hashlib.sha256(prefix + kind)
    digest.update(content)
    return digest.digest()
