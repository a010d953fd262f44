"""How both spaces of an upgrade answer the same queries, known before anybody is served by the new one."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from nearlight.server.cache import CacheUse
from nearlight.server.call import F32, Caller, Input
from nearlight.server.catalog import Catalog
from nearlight.server.embedder import Embedder
from nearlight.server.errors import ServerError
from nearlight.server.log import get_logger
from nearlight.server.models import LoadedModel
from nearlight.server.patience import Patience
from nearlight.server.prompt_bank import PROMPTS
from nearlight.server.relevance import RelevanceDesk
from nearlight.server.stopwatch import Stopwatch
from nearlight.store import InvalidQuery

log = get_logger(__name__)

# Texts embedded alone, to see how long it takes.
TIMED_TEXTS = 5
TEXTS_AT_ONCE = 64
_NO_CACHE = CacheUse(read=False, write=False)


class UpgradeEvaluation:
    """Compares the two spaces of a collection, and calibrates the new one where the old one is.

    Args:
        catalog: collections and models.
        embedder: for the texts.
        relevance: calibrates.
    """

    def __init__(self, catalog: Catalog, embedder: Embedder, relevance: RelevanceDesk) -> None:
        self._catalog = catalog
        self._embedder = embedder
        self._relevance = relevance

    async def evaluate(self, name: str, texts: Sequence[str] = ()) -> None:
        """Compare, and keep the result with the upgrade.

        Args:
            name: of the collection.
            texts: queries; none: a bank of generic prompts.

        Raises:
            ServerError: a text cannot be embedded.
            StoreError: no upgrade under way.
        """
        upgrades = self._catalog.embedded("an upgrade").upgrades
        upgrade = upgrades.get(name)
        both = [self._catalog.models.of_space(one.space_id) for one in (upgrade.old, upgrade.new)]
        models = [model for model in both if model is not None and "text" in model.towers]
        vectors: tuple[F32, F32] | None = None
        embed_ms = [0.0, 0.0]
        if len(models) == 2:
            wanted = list(texts) or list(PROMPTS)
            vectors = (await self._embed(models[0], wanted), await self._embed(models[1], wanted))
            embed_ms = [await self._embedding_ms(model, wanted) for model in models]
        found = await self._catalog.run(lambda: upgrades.compare(name, vectors))
        document = asdict(found) | {
            "old_ms": found.old_ms + embed_ms[0],
            "new_ms": found.new_ms + embed_ms[1],
        }
        await self._catalog.run(lambda: upgrades.keep_evaluation(name, document))
        await self._calibrate(name)

    async def _calibrate(self, name: str) -> None:
        """Queries that ask for relevance must go on being answered."""
        store = self._catalog.embedded("an upgrade")
        if not store.calibrations.get(self._catalog.embedded_collection(name, "an upgrade")):
            return
        other = await self._catalog.run(lambda: store.upgrades.other(name))
        bank = await self._relevance.text_bank(other.info.space_id)
        try:
            await self._catalog.run(lambda: store.calibrations.fit(other, bank))
        except InvalidQuery as error:  # too few points by now
            log.warning("the new space is not calibrated", collection=name, reason=str(error))

    async def _embed(self, model: LoadedModel, texts: Sequence[str]) -> F32:
        """Vectors (T, D)."""
        patience = Patience(Caller(), waits_for_room=True, lane="bulk")
        rows = []
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            inputs = [
                Input("text", text, f"queries[{start + i}]")
                for i, text in enumerate(texts[start : start + TEXTS_AT_ONCE])
            ]
            for outcome in (await self._embedder.embed(model, inputs, patience)).outcomes:
                if isinstance(outcome, ServerError):
                    raise outcome
                rows.append(outcome.vector)
        return np.stack(rows)

    async def _embedding_ms(self, model: LoadedModel, texts: Sequence[str]) -> float:
        """Median milliseconds that one text takes, alone and not remembered."""
        times = []
        for text in texts[:TIMED_TEXTS]:
            watch = Stopwatch()
            await self._embedder.embed_one(
                model, Input("text", text, "queries"), Patience(Caller()), _NO_CACHE
            )
            times.append(watch.ms)
        return float(np.median(times))
