"""One run of an engine: rows side by side in, an outcome for every input out."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nearlight.server.call import F32, Embedded, Lane, Outcome, Row, Work, wake
from nearlight.server.errors import ModelFailure
from nearlight.server.log import get_logger
from nearlight.server.runtimes.encoder import Encoder
from nearlight.server.supervisor import Pulse

log = get_logger(__name__)

# Told the rows and seconds of a run that went well.
OnRun = Callable[[Row, float], None]


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs and their rows.

    Args:
        lane: whose turn it was.
        works: B inputs, of one shape.
        rows: (B, …).
    """

    lane: Lane
    works: list[Work]
    rows: Row


def gathered(stage: str, lane: Lane, works: list[Work]) -> Batch | None:
    """Copy rows side by side; None where there are none, or no memory for them."""
    try:
        ready = [(work, row) for work in works if (row := work.row) is not None]
        if not ready:
            return None
        return Batch(lane, [work for work, _ in ready], np.stack([row for _, row in ready]))
    except Exception as error:
        log.error("gathering a batch failed", stage=stage, rows=len(works), exc_info=True)
        for work in works:
            work.settle(ModelFailure(f"gathering failed: {error}"))
        return None


def still_wanted(works: list[Work]) -> list[Work]:
    """The inputs that somebody waits for; the others are answered, before they cost anything."""
    return [work for work in works if not _dropped(work)]


def without_unwanted(batch: Batch) -> Batch | None:
    """The batch less the inputs that nobody waits for any more; None where that is all of them."""
    wanted = still_wanted(batch.works)
    if len(wanted) == len(batch.works):
        return batch
    kept = {id(work) for work in wanted}
    places = [place for place, work in enumerate(batch.works) if id(work) in kept]
    return Batch(batch.lane, wanted, batch.rows[places]) if wanted else None


def run(stage: str, batch: Batch, encoder: Encoder, pulse: Pulse, on_run: OnRun) -> None:
    """Answer each input; on failure halve the batch until only the poisoned input fails.

    Args:
        stage: for logs.
        batch: not empty.
        encoder: used by this thread only.
        pulse: beats before each call of the engine; once it is lost nothing is answered any more.
        on_run: see `OnRun`.
    """
    works, rows = batch.works, batch.rows
    pulse.beat()
    started = time.monotonic()
    try:
        vectors = encoder.encode(rows)  # (B, D)
        if vectors.shape != (len(works), encoder.dim):
            raise ValueError(f"{vectors.shape} vectors for {len(works)} rows of dim {encoder.dim}")
    except Exception as error:
        if pulse.is_lost:
            return
        if len(works) == 1:
            field, request_id = works[0].input.field, works[0].call.request_id
            log.error(
                "the engine failed on an input",
                stage=stage,
                input=field,
                request_id=request_id,
                exc_info=True,
            )
            works[0].settle(ModelFailure(f"the engine failed: {error}"))
            return
        half = len(works) // 2
        for part in (slice(half), slice(half, None)):
            if wanted := without_unwanted(Batch(batch.lane, works[part], rows[part])):
                run(stage, wanted, encoder, pulse, on_run)
        return
    if pulse.is_lost:
        return
    infer_s = time.monotonic() - started
    on_run(rows, infer_s)
    for work in works:
        work.call.times.cover(queue_ms=(started - work.ready_at) * 1e3, infer_ms=infer_s * 1e3)
    _answer(stage, works, vectors)


def _answer(stage: str, works: list[Work], vectors: F32) -> None:
    """To each input its vector, unless that is not finite."""
    is_finite = np.isfinite(np.sum(vectors, axis=1))  # (B,)
    complete = []
    try:
        for i, work in enumerate(works):
            if work.note(_outcome(stage, work, vectors[i], is_finite=bool(is_finite[i]))):
                complete.append(work.call)
    finally:
        wake(complete)


def _outcome(stage: str, work: Work, vector: F32, *, is_finite: bool) -> Outcome:
    if is_finite:
        return Embedded(vector, work.truncated, work.perceptual_hash)
    log.error(
        "the engine gave a vector that is not finite",
        stage=stage,
        input=work.input.field,
        request_id=work.call.request_id,
    )
    return ModelFailure("the engine gave a vector that is not finite")


def _dropped(work: Work) -> bool:
    reason = work.call.no_longer_wanted()
    if reason:
        work.settle(reason)
    return reason is not None
