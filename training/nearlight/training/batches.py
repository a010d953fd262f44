"""Batches, made ahead of the trainer on a thread; what is in one depends on seed and step alone."""

import contextlib
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nearlight.bundle.text import Tokenizer
from nearlight.training.captions import say
from nearlight.training.config import RunConfig
from nearlight.training.errors import ConfigError
from nearlight.training.mixture import Mixture
from nearlight.training.pixels import PixelReader
from nearlight.training.sources import Source

_SHORT_TOKENS = 16  # texts up to here are encoded apart, so that class names do not pay for long captions


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's samples."""

    step: int
    pixels: Tensor  # (B, S, S, 3) uint8
    tokens: tuple[Tensor, ...]  # distinct texts in order, as blocks (T_i, L_i) int64
    text_index: Tensor  # (B,) int64 into the blocks laid end to end
    groups: Tensor  # (B,) int64

    def to(self, device: torch.device) -> "Batch":
        """Returns the batch on a device."""
        return Batch(
            self.step,
            self.pixels.to(device, non_blocking=True),
            tuple(t.to(device, non_blocking=True) for t in self.tokens),
            self.text_index.to(device, non_blocking=True),
            self.groups.to(device, non_blocking=True),
        )


class BatchMaker:
    """Makes the batch of any step."""

    def __init__(
        self,
        config: RunConfig,
        sources: Sequence[Source],
        readers: Sequence[PixelReader],
        tokenizer: Tokenizer,
        templates: Sequence[str],
    ) -> None:
        self._config = config
        self._sources = sources
        self._readers = readers
        self._tokenizer = tokenizer
        self._templates = templates
        sizes, weights = [len(s) for s in sources], [s.weight for s in sources]
        if len(sources) > config.batch_size:
            raise ConfigError(
                f"batch_size = {config.batch_size}: the least for {len(sources)} sources is {len(sources)}"
            )
        self._mixture = Mixture(sizes, weights, config.batch_size, config.seed)

    @property
    def shares(self) -> list[int]:
        """Samples of each source in every batch."""
        return self._mixture.shares

    def warnings(self) -> list[str]:
        """Returns a line for each source in which images could not be decoded so far."""
        return [
            f"warning: {len(r.broken)} of {len(s)} images of {s.name} cannot be decoded (grey instead); "
            f"row {min(r.broken)}: {r.broken[min(r.broken)]}"
            for s, r in zip(self._sources, self._readers, strict=True)
            if r.broken
        ]

    def make(self, step: int) -> Batch:
        """Returns the batch of a step (0-based)."""
        rng = np.random.default_rng([self._config.seed, 2, step])
        rows = self._mixture.rows(step)
        said = say(list(zip(self._sources, rows, strict=True)), self._templates, rng)
        pixels = np.concatenate([reader.read(r) for reader, r in zip(self._readers, rows, strict=True)])
        blocks, place = self._tokenise(said.texts)
        return Batch(
            step,
            torch.from_numpy(pixels),
            blocks,
            torch.from_numpy(place[said.index]),
            torch.from_numpy(said.groups),
        )

    def ahead(self, start: int, stop: int) -> Iterator[Batch]:
        """Yields the batches of steps start..stop-1, made by a thread that stays `data.prefetch` ahead."""
        ready: queue.Queue[Batch | BaseException] = queue.Queue(self._config.data.prefetch)
        closed = threading.Event()

        def put(item: Batch | BaseException) -> None:
            while not closed.is_set():
                with contextlib.suppress(queue.Full):
                    ready.put(item, timeout=0.5)
                    return

        def work() -> None:
            try:
                for step in range(start, stop):
                    if closed.is_set():
                        return
                    put(self.make(step))
            except BaseException as error:  # handed to the trainer, which raises it
                put(error)

        thread = threading.Thread(target=work, name="batches", daemon=True)
        thread.start()
        try:
            for _ in range(start, stop):
                item = ready.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            closed.set()
            thread.join(timeout=10)

    def _tokenise(self, texts: Sequence[str]) -> tuple[tuple[Tensor, ...], np.ndarray]:
        """Returns blocks of short and of long texts, and where each text stands in them laid end to end."""
        tokens = self._tokenizer.encode(texts, trim=True)  # (T, L)
        lengths = tokens.argmax(axis=1) + 1  # the end token has the highest id
        short = np.flatnonzero(lengths <= _SHORT_TOKENS)
        long = np.flatnonzero(lengths > _SHORT_TOKENS)
        place = np.empty(len(texts), np.int64)
        place[np.concatenate((short, long))] = np.arange(len(texts))
        blocks = []
        for chosen in (short, long):
            if len(chosen):
                blocks.append(torch.from_numpy(tokens[chosen][:, : lengths[chosen].max()].copy()))
        return tuple(blocks), place
