"""From inputs to vectors: split a call, send each input on its way, wait for the last, join."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from nearlight.server.call import F32, Call, Input, Outcome, StageTimes, Work
from nearlight.server.decode import DecodePool
from nearlight.server.errors import NotPossible, NotReady, ServerError
from nearlight.server.metrics import observe
from nearlight.server.models import LoadedModel, Tower
from nearlight.server.patience import Patience


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Outcomes in the order of the inputs, and the slowest times at each stage."""

    outcomes: Sequence[Outcome]
    times: StageTimes


class Embedder:
    """The one door to the engines.

    Args:
        pool: decodes and tokenises for all models.
    """

    def __init__(self, pool: DecodePool) -> None:
        self._pool = pool

    async def embed(self, model: LoadedModel, inputs: Sequence[Input], patience: Patience) -> Embeddings:
        """Embed each input; one that fails does not touch its neighbours.

        Args:
            model: in service.
            inputs: images and texts may be mixed; may be empty.
            patience: who asks, until when.

        Raises:
            Overloaded: no room for all of them, and the caller does not wait for room.
            TooLate: the deadline passed.
            NotReady: a stage is dead.
        """
        if not inputs:
            return Embeddings([], StageTimes())
        call = Call(len(inputs), patience.caller, patience.deadline)
        works = [work for index, item in enumerate(inputs) if (work := _work(model, call, index, item))]
        counts = Counter(work.input.kind for work in works)
        # Sorted: two calls that wait for two towers in opposite order would wait forever.
        towers = [(model.towers[kind], n) for kind, n in sorted(counts.items())]
        await _enter(towers, patience)
        try:
            self._pool.submit(works)
            return Embeddings(await call.joined(), call.times)
        finally:
            self._forget(call, towers, patience)

    async def embed_one(self, model: LoadedModel, item: Input, patience: Patience) -> tuple[F32, StageTimes]:
        """The unit vector (D,) of one input.

        Raises:
            ServerError: whatever kept it from being embedded.
        """
        embeddings = await self.embed(model, [item], patience)
        outcome = embeddings.outcomes[0]
        if isinstance(outcome, ServerError):
            raise outcome
        return outcome.vector, embeddings.times

    def _forget(self, call: Call, towers: Sequence[tuple[Tower, int]], patience: Patience) -> None:
        """Drop what still waits: nothing, unless the caller left or its deadline passed."""
        observe.embedded([tower.name.rpartition("/")[2] for tower, _ in towers], call.times)
        call.cancel()
        self._pool.discard(call)
        for tower, n in towers:
            tower.batcher.discard(call)
            tower.admission(patience).leave(n)


def _work(model: LoadedModel, call: Call, index: int, item: Input) -> Work | None:
    """The input on its way, or None where it is settled at once because the model lacks the tower."""
    tower = model.towers.get(item.kind)
    if tower is not None:
        return Work(call, index, item, tower.route)
    message = f"{item.field}: model {model.name!r} has no {item.kind} tower"
    call.settle(index, NotPossible(message, field=item.field))
    return None


async def _enter(towers: Sequence[tuple[Tower, int]], patience: Patience) -> None:
    """Enter all towers or none."""
    entered: list[tuple[Tower, int]] = []
    try:
        for tower, n in towers:
            if tower.batcher.is_dead:
                raise NotReady(f"{tower.name} is out of service: a stage died")
            if patience.waits_for_room:
                await tower.admission(patience).enter_when_room(n)
            else:
                tower.admission(patience).enter(n)
            entered.append((tower, n))
    except BaseException:
        for tower, n in entered:
            tower.admission(patience).leave(n)
        raise
