"""From inputs to vectors: split a call, send each input on its way, wait for the last, join."""

from collections.abc import Sequence

from nearlight.server.cache import CacheUse, VectorCache, keys_of
from nearlight.server.call import F32, TOWERS, Call, Input, StageTimes, Work
from nearlight.server.errors import NotPossible, NotReady, ServerError
from nearlight.server.lookup import Embeddings, Lookup, OnAnswer
from nearlight.server.metrics import observe
from nearlight.server.models import LoadedModel, Tower
from nearlight.server.patience import Patience
from nearlight.server.preparation import Preparation

USE_CACHE = CacheUse()


class Embedder:
    """The one door to the engines.

    Args:
        preparation: decodes and tokenises for all models.
        cache: of vectors; None: every input is computed.
    """

    def __init__(self, preparation: Preparation, cache: VectorCache | None = None) -> None:
        self._preparation = preparation
        self._cache = cache

    async def embed(
        self,
        model: LoadedModel,
        inputs: Sequence[Input],
        patience: Patience,
        use: CacheUse = USE_CACHE,
    ) -> Embeddings:
        """Embed each input; one that fails does not touch its neighbours.

        Args:
            model: in service.
            inputs: images and texts may be mixed; may be empty.
            patience: who asks, until when.
            use: of the cache.

        Raises:
            Overloaded: no room for all of them, or not before the deadline.
            TooLate: the deadline passed.
            NotReady: a stage is down.
        """
        if not inputs:
            return Embeddings([], StageTimes())
        if self._cache is None or not (use.read or use.write):
            return await self._compute(model, inputs, patience)
        keys = await keys_of(model, inputs)
        cache = self._cache

        async def compute(chosen: Sequence[int], on_answer: OnAnswer) -> Embeddings:
            return await self._compute(model, [inputs[i] for i in chosen], patience, on_answer)

        if use.read:
            return await Lookup(cache, keys, patience, use).run(compute)
        return await self._compute(
            model, inputs, patience, lambda i, outcome: cache.answer(keys[i], None, outcome, keep=True)
        )

    async def embed_one(
        self, model: LoadedModel, item: Input, patience: Patience, use: CacheUse = USE_CACHE
    ) -> tuple[F32, StageTimes]:
        """The unit vector (D,) of one input.

        Raises:
            ServerError: whatever kept it from being embedded.
        """
        embeddings = await self.embed(model, [item], patience, use)
        outcome = embeddings.outcomes[0]
        if isinstance(outcome, ServerError):
            raise outcome
        return outcome.vector, embeddings.times

    async def _compute(
        self,
        model: LoadedModel,
        inputs: Sequence[Input],
        patience: Patience,
        on_answer: OnAnswer | None = None,
    ) -> Embeddings:
        call = Call(len(inputs), patience.caller, patience.deadline, patience.lane, on_answer)
        towers = _towers_of(model, inputs)
        # Before anything is made of the inputs: under overload most calls come no further.
        await _enter(call, towers, patience)
        try:
            self._preparation.submit(
                [work for index, item in enumerate(inputs) if (work := _work(model, call, index, item))]
            )
            return Embeddings(await call.joined(), call.times)
        finally:
            self._forget(call, towers, patience)

    def _forget(self, call: Call, towers: Sequence[tuple[Tower, int]], patience: Patience) -> None:
        """Drop what still waits: nothing, unless the caller left or its deadline passed."""
        observe.embedded([tower.name.rpartition("/")[2] for tower, _ in towers], call.times)
        if call.left:
            call.cancel()
            self._preparation.discard(call)
        for tower, _ in towers:
            if call.left:
                tower.batcher.discard(call)
            tower.admission(patience).leave(call)


def _towers_of(model: LoadedModel, inputs: Sequence[Input]) -> list[tuple[Tower, int]]:
    """The towers that inputs are for, and how many for each.

    In one order always: two calls that wait for two towers in opposite order would wait forever.
    """
    kinds = [item.kind for item in inputs]
    return [(model.towers[kind], n) for kind in TOWERS if (n := kinds.count(kind)) and kind in model.towers]


def _work(model: LoadedModel, call: Call, index: int, item: Input) -> Work | None:
    """The input on its way, or None where it is settled at once because the model lacks the tower."""
    tower = model.towers.get(item.kind)
    if tower is not None:
        return Work(call, index, item, tower.route)
    message = f"{item.field}: model {model.name!r} has no {item.kind} tower"
    call.settle(index, NotPossible(message, field=item.field))
    return None


async def _enter(call: Call, towers: Sequence[tuple[Tower, int]], patience: Patience) -> None:
    """Enter all towers or none."""
    entered: list[Tower] = []
    try:
        for tower, n in towers:
            if tower.batcher.is_dead:
                raise NotReady(f"{tower.name} is out of service; try again")
            if patience.waits_for_room:
                await tower.admission(patience).enter_when_room(call, n)
            else:
                tower.admission(patience).enter(call, n)
            entered.append(tower)
    except BaseException:
        for tower in entered:
            tower.admission(patience).leave(call)
        raise
