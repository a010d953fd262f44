"""Batches, made ahead of the trainer on a thread; what is in one depends on seed and step alone."""

import contextlib
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

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
from nearlight.training.views import Share

_NO_PIXELS = np.empty((0, 0, 0, 3), np.uint8)
_SHORT_TOKENS = 16  # texts up to here are encoded apart, so that class names do not pay for long captions


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's samples, or the share of them that one process has."""

    step: int
    pixels: Tensor  # (B, S, S, 3) uint8
    tokens: tuple[Tensor, ...]  # distinct texts in order, as blocks (T_i, L_i) int64; none for images alone
    text_index: Tensor  # (B,) int64 into the blocks laid end to end
    groups: Tensor  # (B,) int64, equal numbers are positives of one another
    index: Tensor  # (B,) int64, the place of each sample in all sources laid end to end
    labels: Tensor  # (B,) int64, the place of its class among the sorted class names; -1 without one
    share: Share

    def to(self, device: torch.device) -> "Batch":
        """Returns the batch on a device."""
        moved = {
            name: getattr(self, name).to(device, non_blocking=True)
            for name in ("pixels", "text_index", "groups", "index", "labels")
        }
        return replace(self, tokens=tuple(t.to(device, non_blocking=True) for t in self.tokens), **moved)

    def rows(self, start: int, stop: int) -> "Batch":
        """Returns samples start to stop - 1 with the texts they need."""
        used, text_index = torch.unique(self.text_index[start:stop], return_inverse=True)
        blocks, first = [], 0
        for block in self.tokens:
            here = used[(used >= first) & (used < first + len(block))] - first
            first += len(block)
            if len(here):
                blocks.append(block[here])
        parts = {name: getattr(self, name)[start:stop] for name in ("pixels", "groups", "index", "labels")}
        share = Share(self.share.start + start, self.share.whole)
        return replace(self, tokens=tuple(blocks), text_index=text_index, share=share, **parts)


def class_names(sources: Sequence[Source]) -> tuple[str, ...]:
    """Returns the sorted class names of all sources; a label is a place in them."""
    return tuple(sorted({name for source in sources for name in source.label_names or ()}))


class BatchMaker:
    """Makes the batch of any step."""

    def __init__(
        self,
        config: RunConfig,
        sources: Sequence[Source],
        readers: Sequence[PixelReader],
        tokenizer: Tokenizer | None = None,
        templates: Sequence[str] = (),
        rank: int = 0,
        world: int = 1,
        held: Tensor | None = None,
    ) -> None:
        """Looks at the sources; decodes nothing.

        Args:
            config: of the run.
            sources: with their readers.
            readers: one for each source.
            tokenizer: None for methods of images alone, whose batches hold no text.
            templates: sentences around class names.
            rank: this process among `world`; each makes its part of every batch.
            world: how many processes there are.
            held: all images on the device (`pixels.on_device`); None: the readers give those of each batch.

        Raises:
            ConfigError: fewer samples in a batch than sources, or a batch that does not divide by `world`.
        """
        self._config = config
        self._sources = sources
        self._readers = readers
        self._tokenizer = tokenizer
        self._templates = templates
        self._rank, self._world = rank, world
        self._held = held
        self._first = np.cumsum([0, *(len(s) for s in sources)])  # of each source, end to end
        number = {name: i for i, name in enumerate(class_names(sources))}
        self._labels = [
            None if s.label_names is None else np.array([number[n] for n in s.label_names], np.int64)
            for s in sources
        ]
        if config.batch_size % world:
            raise ConfigError(f"batch_size = {config.batch_size}: it must divide by the {world} processes")
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
        """Returns a line for all that was left out of a source, and for images not decoded so far."""
        left_out = [f"warning: {source.name}: {note}" for source in self._sources for note in source.notes]
        return left_out + [
            f"warning: {len(r.broken)} of {len(s)} images of {s.name} cannot be decoded (grey instead); "
            f"row {min(r.broken)}: {r.broken[min(r.broken)]}"
            for s, r in zip(self._sources, self._readers, strict=True)
            if r.broken
        ]

    def make(self, step: int) -> Batch:
        """Returns this process's part of the batch of a step (0-based)."""
        return self._with_pixels(self._prepare(step))

    def _with_pixels(self, batch: Batch) -> Batch:
        """Returns a batch with its images taken on the device, by the thread that uses it.

        Another thread must not: it would break a CUDA graph that is being recorded.
        """
        if self._held is None:
            return batch
        rows = batch.index.to(self._held.device, non_blocking=True)
        return replace(batch, pixels=self._held[rows])

    def _prepare(self, step: int) -> Batch:
        rows = self._mixture.rows(step)
        size = self._config.batch_size // self._world
        start = self._rank * size
        pixels = _NO_PIXELS if self._held is not None else self._read(rows, start, start + size)
        index = np.concatenate([first + r for first, r in zip(self._first[:-1], rows, strict=True)])
        labels = np.concatenate(
            [np.full(len(r), -1) if k is None else k[r] for k, r in zip(self._labels, rows, strict=True)]
        )
        tokens, text_index, groups = self._words(step, rows)
        mine = slice(start, start + size)
        batch = Batch(
            step,
            torch.from_numpy(pixels),
            tokens,
            torch.from_numpy(text_index[mine]),
            torch.from_numpy(groups[mine]),
            torch.from_numpy(index[mine]),
            torch.from_numpy(labels[mine]),
            Share(start, self._config.batch_size),
        )
        return batch if self._world == 1 else batch.rows(0, size)  # without the texts of the others

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
                    put(self._prepare(step))
            except BaseException as error:  # handed to the trainer, which raises it
                put(error)

        thread = threading.Thread(target=work, name="batches", daemon=True)
        thread.start()
        try:
            for _ in range(start, stop):
                item = ready.get()
                if isinstance(item, BaseException):
                    raise item
                yield self._with_pixels(item)
        finally:
            closed.set()
            thread.join(timeout=10)

    def _read(self, rows: Sequence[np.ndarray], start: int, stop: int) -> np.ndarray:
        """Returns (stop - start, S, S, 3) pixels of that part of the rows of all sources laid end to end."""
        parts, first = [], 0
        for reader, r in zip(self._readers, rows, strict=True):
            wanted = r[max(start - first, 0) : max(stop - first, 0)]
            first += len(r)
            if len(wanted):
                parts.append(reader.read(wanted))
        return np.concatenate(parts)

    def _words(
        self, step: int, rows: Sequence[np.ndarray]
    ) -> tuple[tuple[Tensor, ...], np.ndarray, np.ndarray]:
        """Returns blocks of tokens, (B,) rows of them, and (B,) groups, of the whole batch of a step."""
        if self._tokenizer is None:
            each = np.arange(self._config.batch_size, dtype=np.int64)
            return (), each, each
        rng = np.random.default_rng([self._config.seed, 2, step])
        said = say(list(zip(self._sources, rows, strict=True)), self._templates, rng)
        blocks, place = self._tokenise(self._tokenizer, said.texts)
        return blocks, place[said.index], said.groups

    def _tokenise(self, tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[tuple[Tensor, ...], np.ndarray]:
        """Returns blocks of short and of long texts, and where each text stands in them laid end to end."""
        tokens = tokenizer.encode(texts, trim=True)  # (T, L)
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
