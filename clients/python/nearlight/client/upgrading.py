"""Follows an upgrade to its end, and sends originals that the server has not kept, from where they are."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nearlight.client.batching import batches, room_bytes
from nearlight.client.files import read_image_file
from nearlight.client.sources import ParquetFiles, Source, fingerprint
from nearlight.client.sync_client import Client
from nearlight.client.upgrades import Original, OriginalsSent, Upgrade, WantedOriginal

# Between looks at how far the server is.
LOOK_SECONDS = 0.3
# An upgrade may be paced: its server then takes its time to answer.
SEND_SECONDS = 600.0
BATCH_IMAGES = 32
IN_FLIGHT = 3


class Originals(Protocol):
    """Where originals are."""

    def of(self, wanted: Iterable[WantedOriginal]) -> Iterator[Original]:
        """Yields the original of each point, or why there is none."""
        ...


@dataclass(frozen=True, slots=True)
class NoOriginals:
    """Nowhere."""

    def of(self, wanted: Iterable[WantedOriginal]) -> Iterator[Original]:
        """Yields that there is none."""
        for one in wanted:
            yield Original(one.seq, None, "its original is kept nowhere")


@dataclass(frozen=True, slots=True)
class FolderOriginals:
    """Below a folder, by the path in the payload; what leads outside of the folder is not read."""

    root: Path

    def of(self, wanted: Iterable[WantedOriginal]) -> Iterator[Original]:
        """Yields the original of each point, or why there is none."""
        for one in wanted:
            try:
                image, _ = read_image_file(self._file(one.payload))
                yield Original(one.seq, *_checked(image, one.payload))
            except (OSError, ValueError) as error:
                yield Original(one.seq, None, getattr(error, "strerror", None) or str(error))

    def _file(self, payload: dict[str, Any]) -> Path:
        path = payload.get("path")
        if not isinstance(path, str) or not path:
            raise ValueError("its payload has no path: its vector was given, or it is of another source")
        root = self.root.resolve()
        file = (root / path).resolve()
        if not file.is_relative_to(root):
            raise ValueError(f"its path leads out of {root}")
        return file


@dataclass(frozen=True, slots=True)
class ParquetOriginals:
    """In parquet files, by id, as `nearlight index` reads them."""

    files: ParquetFiles

    def of(self, wanted: Iterable[WantedOriginal]) -> Iterator[Original]:
        """Yields the original of each point, or why there is none; reads the files once."""
        by_id = {one.id: one for one in wanted}
        for row in self.files:
            one = by_id.pop(row.id, None)
            if one is None:
                continue
            image = row.image
            yield (
                Original(one.seq, None, "the row has no image")
                if image is None
                else Original(one.seq, *_checked(image, one.payload))
            )
        for one in by_id.values():
            yield Original(one.seq, None, "no row has its id")


def originals_in(source: Source) -> Originals:
    """Returns where the originals of what was indexed from a source are."""
    if isinstance(source, ParquetFiles):
        return ParquetOriginals(source)
    root = getattr(source, "root", None)
    return FolderOriginals(Path(root)) if root is not None else NoOriginals()


def _checked(image: bytes, payload: dict[str, Any]) -> tuple[bytes | None, str]:
    """Returns an image, or why it is not what was indexed."""
    indexed = payload.get("sha256")
    if isinstance(indexed, str) and indexed != fingerprint(image)["sha256"]:
        return None, "the image has changed since it was indexed: index it again"
    return image, ""


@dataclass(slots=True)
class Upgrading:
    """One run along an upgrade. Interrupted anywhere it loses nothing: another run goes on.

    Attributes:
        client: of the server.
        collection: its upgrade is under way.
        originals: where those are that the server has not kept; None: stop where some are wanted.
        on_progress: called with the upgrade now and then.
    """

    client: Client
    collection: str
    originals: Originals | None
    on_progress: Callable[[Upgrade], None] = lambda _: None

    def run(self) -> Upgrade:
        """Returns the upgrade once the server has nothing more to embed, or wants originals and gets none."""
        while True:
            now = self.client.upgrade(self.collection)
            self.on_progress(now)
            if now.state != "running":
                return now
            if now.wanted and now.model:
                if self.originals is None:
                    if now.done + now.failed + now.wanted == now.total:
                        return now
                elif self._send(self.originals.of(self._wanted()), now):
                    continue
            time.sleep(LOOK_SECONDS)

    def _wanted(self) -> Iterator[WantedOriginal]:
        token = ""
        while True:
            page, token = self.client.upgrade_wanted(self.collection, token)
            yield from page
            if not token:
                return

    def _send(self, originals: Iterator[Original], now: Upgrade) -> int:
        """Sends originals, a few messages at a time; returns how many were dealt with."""
        limits = self.client.model(now.model).limits
        room = room_bytes(limits.max_message_bytes)
        rate = now.max_points_per_second
        size = min(BATCH_IMAGES, limits.max_batch_inputs, max(1, int(rate)) if rate else BATCH_IMAGES)
        fitting = (_fitting(one, room) for one in originals)
        sized = ((one, len(one.image or b"")) for one in fitting)
        waiting: deque[Future[OriginalsSent]] = deque()
        settled = 0
        with ThreadPoolExecutor(IN_FLIGHT, "nearlight-send") as threads:
            for batch in batches(sized, size, room):
                waiting.append(threads.submit(self._send_batch, batch))
                if len(waiting) == IN_FLIGHT:
                    settled += _settled(waiting.popleft().result())
                    self.on_progress(self.client.upgrade(self.collection))
            return settled + sum(_settled(one.result()) for one in waiting)

    def _send_batch(self, batch: list[Original]) -> OriginalsSent:
        return self.client.send_originals(self.collection, batch, timeout=SEND_SECONDS)


def _fitting(original: Original, room: int) -> Original:
    n_bytes = len(original.image or b"")
    if n_bytes <= room:
        return original
    return Original(original.seq, None, f"it takes {n_bytes} bytes; the server's message limit leaves {room}")


def _settled(sent: OriginalsSent) -> int:
    again = ("DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "UNAVAILABLE")
    return sent.embedded + sent.outdated + sum(error.code not in again for error in sent.errors)
