"""Inputs into rows, on arrival, in a pool of threads: the engine's queue holds only what is ready to run."""

import threading
import time
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial

import numpy as np

from nearlight.bundle.errors import ImageError, TextError
from nearlight.bundle.image import ImageLimits, load_pixels
from nearlight.bundle.manifest import ImagePreprocess, TextTower
from nearlight.bundle.text import TextLimits, Tokenizer, check_text
from nearlight.server.call import Call, Input, Prepared, Work
from nearlight.server.errors import InvalidInput, ModelFailure, NotReady, ServerError
from nearlight.server.fair_queue import FairQueue
from nearlight.server.log import get_logger
from nearlight.server.metrics import observe
from nearlight.server.threads import start_stage_thread

log = get_logger(__name__)

CLOSE_SECONDS = 5.0


class DecodePool:
    """Threads that prepare inputs, one at a time, round robin between callers.

    Every input given here is settled or handed to its engine's queue.

    Args:
        threads: at least 1.
        on_death: called with the thread's name if one of them dies.
    """

    def __init__(self, threads: int, on_death: Callable[[str], None]) -> None:
        self._on_death = on_death
        self._changed = threading.Condition()
        self._queue = FairQueue()
        self._held: dict[str, Work] = {}
        self._alive = threads
        self._is_closed = False
        names = [f"decode {number}" for number in range(threads)]
        self._threads = [start_stage_thread(name, partial(self._run, name), self._die) for name in names]

    def submit(self, works: Sequence[Work]) -> None:
        """Queue the inputs of a call."""
        with self._changed:
            if self._alive and not self._is_closed:
                for work in works:
                    self._queue.push(work)
                self._changed.notify(len(works))
                return
        for work in works:
            work.settle(NotReady("decoding is out of service"))

    def discard(self, call: Call) -> None:
        """Forget the waiting inputs of a call that nobody reads any more."""
        with self._changed:
            self._queue.discard_call(call)

    def close(self) -> None:
        """Refuse what waits and end the threads."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(CLOSE_SECONDS)
        self._fail_waiting(NotReady("the server is closing"))

    def _run(self, name: str) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or len(self._queue) > 0)
                if self._is_closed:
                    return
                work = self._held[name] = self._queue.take(1)[0]
            _prepare(work)
            del self._held[name]

    def _die(self, name: str) -> None:
        with self._changed:
            self._alive -= 1
            is_last = not self._alive
            held = self._held.pop(name, None)
        self._on_death(name)
        if held:
            held.settle(ModelFailure(f"{name} died"))
        if is_last:
            self._fail_waiting(NotReady("decoding is out of service"))

    def _fail_waiting(self, error: ServerError) -> None:
        with self._changed:
            waiting = self._queue.discard_all()
        for work in waiting:
            work.settle(error)


def _prepare(work: Work) -> None:
    """Make the row and hand it on, or settle the input with what is wrong with it."""
    reason = work.call.no_longer_wanted()
    if reason:
        work.settle(reason)
        return
    started = time.monotonic()
    try:
        prepared = work.route.prepare(work.input)
    except ServerError as error:
        work.settle(error)
        return
    except Exception as error:
        log.error("preparing an input failed", input=work.input.field, exc_info=True)
        work.settle(ModelFailure(f"preparing failed: {error}"))
        return
    work.row, work.truncated = prepared.row, prepared.truncated
    work.call.times.cover(decode_ms=(time.monotonic() - started) * 1e3)
    work.route.deliver(work)


def image_preparation(spec: ImagePreprocess, limits: ImageLimits) -> Callable[[Input], Prepared]:
    """A function from an encoded image to its row (H, W, 3) uint8; it raises InvalidInput."""

    def prepare(image: Input) -> Prepared:
        assert isinstance(image.content, bytes)
        try:
            return Prepared(load_pixels(image.content, spec, limits))
        except ImageError as error:
            raise InvalidInput(f"{image.field}: {error}", field=image.field) from error

    return prepare


def text_preparation(
    tokenizer: Tokenizer, *, lengths: Sequence[int], max_bytes: int
) -> Callable[[Input], Prepared]:
    """A function from a text to its row (L,) int64; it raises InvalidInput.

    Args:
        tokenizer: the bundle's; its tower's context length always joins `lengths`.
        lengths: row lengths to pad to where the tower may be trimmed: few, so that rows of one length meet.
        max_bytes: of the text in UTF-8.
    """
    tower = tokenizer.tower
    # Room for one token more than fits: a row that long will be cut.
    longer = copy(tokenizer)
    longer.tower = tower.model_copy(update={"context_length": tower.context_length + 1})
    widths = text_widths(tower, lengths)

    def prepare(text: Input) -> Prepared:
        assert isinstance(text.content, str)
        _check_text(text.content, text.field, max_bytes)
        row = longer.rows([text.content])[0]
        truncated = len(row) > tower.context_length
        if truncated:
            row = tokenizer.rows([text.content])[0]
        width = next(width for width in widths if width >= len(row))
        tokens = np.full(width, tower.pad_id, np.int64)  # (L,)
        tokens[: len(row)] = row
        observe.padding(len(row), width)
        return Prepared(tokens, truncated)

    return prepare


def text_widths(tower: TextTower, lengths: Sequence[int]) -> list[int]:
    """The row lengths in use, ascending; the last is the context length."""
    shorter = {length for length in lengths if length < tower.context_length} if tower.trimmable else set()
    return [*sorted(shorter), tower.context_length]


def _check_text(text: str, field: str, max_bytes: int) -> None:
    try:
        check_text(text, TextLimits(max_chars=max_bytes))
        n_bytes = len(text.encode())
    except TextError as error:
        raise InvalidInput(f"{field}: {error}", field=field) from error
    if n_bytes > max_bytes:
        raise InvalidInput(f"{field}: text has {n_bytes} bytes; the limit is {max_bytes}", field=field)
