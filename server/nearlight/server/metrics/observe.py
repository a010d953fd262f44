"""The one door through which the stages of a server count what they do. Safe from any thread."""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from prometheus_client import Counter, Histogram

from nearlight.server import tracing
from nearlight.server.call import Outcome, Row, StageTimes
from nearlight.server.errors import ServerError
from nearlight.server.metrics import figures
from nearlight.server.stopwatch import Stopwatch
from nearlight.store import Sampled

_REPLY_SECONDS = figures.STAGE_SECONDS.labels("reply", "any")
_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")


def call_began() -> None:
    """A call was let in; `call_left` must follow."""
    figures.CALLS_IN_FLIGHT.inc()


def call_left() -> None:
    """A call that was let in is over."""
    figures.CALLS_IN_FLIGHT.dec()


def call_ended(method: str, status: str, seconds: float) -> None:
    """A call has been answered.

    Args:
        method: full name, such as "/nearlight.v1.EmbeddingService/Embed".
        status: name of the gRPC status.
        seconds: since it came.
    """
    count, times = _of_calls(method, status)
    count.inc()
    times.observe(seconds)


def request(method: str, n_bytes: int) -> None:
    """A request or a message of a stream has come."""
    _of_requests(method).inc(n_bytes)


def rejected(error: BaseException) -> None:
    """A call, or a batch of a stream, is answered with an error instead of a result."""
    _of_rejections(type(error).__name__).inc()


def inputs_answered(outcomes: Sequence[Outcome]) -> None:
    """Inputs of a call have their outcomes; those that failed are counted."""
    for outcome in outcomes:
        if isinstance(outcome, ServerError):
            figures.INPUT_FAILURES.labels(reason_of(outcome)).inc()


def embedded(towers: Sequence[str], times: StageTimes) -> None:
    """The inputs of a call went through the stages.

    Args:
        towers: kinds of inputs it had: "image", "text".
        times: of its slowest input at each stage.
    """
    if not times.infer_ms:  # it was dropped before it reached the engine
        return
    tracing.stages_passed(times)
    decode, queue, infer = _of_stages("+".join(towers))
    decode.observe(times.decode_ms / 1e3)
    queue.observe(times.queue_ms / 1e3)
    infer.observe(times.infer_ms / 1e3)


def batch(tower: str, rows: Row, seconds: float) -> None:
    """The engine ran.

    Args:
        tower: of model and tower, such as "nearlight-tiny/image".
        rows: (B, …).
        seconds: inside the engine.
    """
    sizes, busy = _of_batches(tower)
    sizes.observe(len(rows))
    busy.inc(seconds)


def padding(tokens: int, width: int) -> None:
    """A text of so many tokens was brought to a row of this width."""
    figures.TEXT_TOKENS.inc(tokens)
    figures.PADDING_TOKENS.inc(width - tokens)


def cache(name: str, *, hit: bool) -> None:
    """A look into a cache, such as "labels"."""
    figures.CACHE_LOOKUPS.labels(name, "yes" if hit else "no").inc()


def recall(sampled: Sampled) -> None:
    """A live query was searched again exactly."""
    figures.RECALL.labels(sampled.modality, sampled.selectivity).observe(sampled.recall)


def timed_reply(write: Callable[[Any], bytes] | None) -> Callable[[Any], bytes] | None:
    """A function that turns a reply into bytes, and counts how long that takes."""
    if write is None:
        return None

    def timed(reply: Any) -> bytes:
        watch = Stopwatch()
        content = write(reply)
        _REPLY_SECONDS.observe(watch.ms / 1e3)
        return content

    return timed


def reason_of(error: BaseException) -> str:
    """The class of an error as a label: OverCallerLimit is "over_caller_limit"."""
    return _words(type(error).__name__)


@lru_cache(maxsize=256)
def _words(name: str) -> str:
    return _WORD.sub("_", name).lower()


# Finding a figure by its labels takes longer than counting: those found are kept.


@lru_cache(maxsize=1024)
def _of_calls(method: str, status: str) -> tuple[Counter, Histogram]:
    name = _short(method)
    return figures.CALLS.labels(name, status), figures.CALL_SECONDS.labels(name)


@lru_cache(maxsize=256)
def _of_rejections(kind: str) -> Counter:
    return figures.REJECTIONS.labels(_words(kind))


@lru_cache(maxsize=256)
def _of_requests(method: str) -> Counter:
    return figures.REQUEST_BYTES.labels(_short(method))


@lru_cache(maxsize=16)
def _of_stages(kinds: str) -> tuple[Histogram, Histogram, Histogram]:
    decode, queue, infer = (
        figures.STAGE_SECONDS.labels(stage, kinds) for stage in ("decode", "queue", "infer")
    )
    return decode, queue, infer


@lru_cache(maxsize=256)
def _of_batches(tower: str) -> tuple[Histogram, Counter]:
    return figures.BATCH_ROWS.labels(tower), figures.ENGINE_BUSY_SECONDS.labels(tower)


def _short(method: str) -> str:
    """Service and method without the package: "EmbeddingService/Embed"."""
    service, _, name = method.rpartition("/")
    return f"{service.rpartition('.')[2]}/{name}"
