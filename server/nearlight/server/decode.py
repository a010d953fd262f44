"""Inputs into rows, on arrival, in a pool of threads: the engine's queue holds only what is ready to run."""

import threading
import time
from collections.abc import Callable, Sequence
from copy import copy

import numpy as np

from nearlight.bundle.errors import ImageError, TextError
from nearlight.bundle.image import ImageLimits, ImageProfile, decode_for, preprocess
from nearlight.bundle.manifest import ImagePreprocess, TextTower
from nearlight.bundle.text import TextLimits, Tokenizer, check_text
from nearlight.server.call import Call, Input, Prepared, Work
from nearlight.server.errors import InvalidInput, ModelFailure, NotReady, ServerError
from nearlight.server.lanes import INTERACTIVE_WEIGHT, LaneQueue
from nearlight.server.log import get_logger
from nearlight.server.metrics import observe
from nearlight.server.perceptual_hash import perceptual_hash
from nearlight.server.supervisor import Life, Pulse, Supervisor

log = get_logger(__name__)

CLOSE_SECONDS = 5.0


class DecodePool:
    """Threads that prepare inputs, one at a time, in turns of lanes and callers.

    Every input given here is settled or handed to its engine's queue.

    Args:
        threads: at least 1.
        supervisor: watches them, and begins one anew when it dies or hangs.
        interactive_weight: see `LaneQueue`.
    """

    def __init__(
        self, threads: int, supervisor: Supervisor, interactive_weight: float = INTERACTIVE_WEIGHT
    ) -> None:
        self._supervisor = supervisor
        self._changed = threading.Condition()
        self._queue = LaneQueue(interactive_weight)
        self._is_closed = False
        self._decoders = [_Decoder(f"decode {number}", self) for number in range(threads)]
        for decoder in self._decoders:
            supervisor.start(decoder)

    def submit(self, works: Sequence[Work]) -> None:
        """Queue the inputs of a call."""
        with self._changed:
            if self._is_working:
                for work in works:
                    work.route.expect(work)
                    self._queue.push(work)
                self._changed.notify(len(works))
                return
        for work in works:
            work.settle(NotReady("decoding is out of service; try again"))

    def discard(self, call: Call) -> None:
        """Forget the waiting inputs of a call that nobody reads any more."""
        with self._changed:
            gone = self._queue.discard_call(call)
        for work in gone:
            work.route.give_up(work)

    def close(self) -> None:
        """Refuse what waits and end the threads."""
        lives = [self._supervisor.forget(decoder) for decoder in self._decoders]
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for life in lives:
            if life:
                life.join(CLOSE_SECONDS)
        self.fail_waiting(NotReady("the server is closing"))

    @property
    def _is_working(self) -> bool:
        return not self._is_closed and any(decoder.is_up for decoder in self._decoders)

    def next_work(self, decoder: "_Decoder", pulse: Pulse) -> Work | None:
        """The input whose turn it is, now held by a decoder; None where there was none for a while."""
        with self._changed:
            self._changed.wait_for(lambda: pulse.is_over or len(self._queue) > 0, pulse.rest_s)
            lane = self._queue.turn()
            if pulse.is_over or lane is None:
                return None
            self._queue.charge(lane, 1.0)
            decoder.held = self._queue.take(lane, 1)[0]
            return decoder.held

    def put_down(self, decoder: "_Decoder") -> Work | None:
        """A decoder has fallen: what it held. Where it was the last, nothing waits for it any more."""
        with self._changed:
            held, decoder.held, decoder.is_up = decoder.held, None, False
        if not self._is_working:
            self.fail_waiting(NotReady("decoding is out of service; try again"))
        return held

    def fail_waiting(self, error: ServerError) -> None:
        """Answer everyone in the queue."""
        with self._changed:
            waiting = self._queue.discard_all()
        for work in waiting:
            work.route.give_up(work)
            work.settle(error)


class _Decoder:
    """One thread of the pool: a stage of its own, so that one that hangs leaves the others at work."""

    def __init__(self, name: str, pool: DecodePool) -> None:
        self.name = self.crew = name
        self.is_up = False
        self.held: Work | None = None
        self._pool = pool

    def begin(self, life: Life) -> None:
        self.is_up = True
        life.start_thread(self.name, self._run)

    def fall(self, reason: str) -> None:
        held = self._pool.put_down(self)
        if held:
            held.route.give_up(held)
            held.settle(ModelFailure(reason))

    def _run(self, pulse: Pulse) -> None:
        while not pulse.is_over:
            pulse.beat()
            work = self._pool.next_work(self, pulse)
            if work is None:
                continue
            _prepare(work, pulse)
            work.route.give_up(work)  # unless it was delivered
            if not pulse.is_lost:
                self.held = None


def _prepare(work: Work, pulse: Pulse) -> None:
    """Make the row and hand it on, or settle the input with what is wrong with it.

    A thread that was given up while it prepared does neither: the input has its answer.
    """
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
        request_id = work.call.request_id
        log.error("preparing an input failed", input=work.input.field, request_id=request_id, exc_info=True)
        work.settle(ModelFailure(f"preparing failed: {error}"))
        return
    if pulse.is_lost:
        return
    if reason := work.call.no_longer_wanted():  # its caller has left meanwhile
        work.settle(reason)
        return
    work.row, work.truncated = prepared.row, prepared.truncated
    work.perceptual_hash = prepared.perceptual_hash
    work.call.times.cover(decode_ms=(time.monotonic() - started) * 1e3)
    work.route.deliver(work)


def image_preparation(
    spec: ImagePreprocess, limits: ImageLimits, profile: ImageProfile = "exact"
) -> Callable[[Input], Prepared]:
    """A function from an encoded image to its row (H, W, 3) uint8; it raises InvalidInput.

    Args:
        spec: of the bundle.
        limits: of the server.
        profile: of inputs that name none.
    """

    def prepare(image: Input) -> Prepared:
        assert isinstance(image.content, bytes)
        try:
            decoded = decode_for(image.content, spec, limits, image.profile or profile)
            seen = perceptual_hash(decoded) if image.hashed else None
            return Prepared(preprocess(decoded, spec), perceptual_hash=seen)
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
