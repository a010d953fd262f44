"""Recall as it is: of live queries, and measured now."""

import numpy as np
import pytest

from nearlight.store import Sampled, SearchParams, Store
from nearlight.store.filters.conditions import Field, Filter, Range
from nearlight.store.generations.sampling import selectivity
from nearlight.store.generations.sealed import Generation
from nearlight.store.generations.tuning import Tuning
from nearlight.store.points import F32, I64
from tests.store.generations.conftest import DIM, Fill, clustered


def test_live_searches_are_compared_with_exact_ones(
    store: Store, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    def any_rows(_: Generation, some: F32, k: int, effort: int, allowed: object = None) -> I64:
        return np.tile(np.arange(k), (len(some), 1))

    collection = fill(1500)
    samples: list[Sampled] = []
    store.sampler.share, store.sampler.on_sample = 1.0, samples.append
    queries = clustered(6, 5)
    true = collection.answer(queries, limit=10, params=SearchParams(exact=True))
    with monkeypatch.context() as patch:
        patch.setattr(Generation, "candidates", any_rows)
        found = collection.answer(queries, limit=10, modality="text")
    assert store.sampler.wait_until_done(30)
    assert [one.modality for one in samples] == ["text"] * 6
    assert {one.selectivity for one in samples} == {"all"}
    for sample, some, others in zip(samples, found.hits, true.hits, strict=True):
        assert sample.recall == len({hit.id for hit in some} & {hit.id for hit in others}) / 10
    assert min(sample.recall for sample in samples) < 1
    samples.clear()
    half = Filter(must=(Field(("n",), Range(lt=800)),))
    collection.answer(queries[:1], half, limit=10, modality="image")
    collection.answer(queries, limit=5)  # fewer than ten hits tell nothing of recall@10
    collection.answer(queries, limit=10, offset=1)
    collection.answer(queries, limit=10, score_threshold=0.0)
    assert store.sampler.wait_until_done(30)
    assert [(one.modality, one.selectivity) for one in samples] == [("image", "50-100%")]
    samples.clear()
    store.sampler.share = 0.0
    collection.answer(queries, limit=10)
    assert store.sampler.wait_until_done(30)
    assert samples == []


@pytest.mark.parametrize(
    ("n_left", "band"),
    [(1000, "all"), (999, "50-100%"), (500, "50-100%"), (100, "10-50%"), (99, "1-10%"), (1, "0.1-1%")],
)
def test_bands_of_selectivity(n_left: int, band: str) -> None:
    assert selectivity(n_left, 1000) == band
    assert selectivity(0, 1000) == "below 0.1%"


def test_recall_is_measured_now(fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = fill(1500)
    texts = np.random.default_rng(9).standard_normal((30, DIM)).astype(np.float32)
    found = collection.measure_recall(texts, n_queries=40, limit=10)
    assert found.n_queries == 70
    assert found.image >= 0.9
    assert found.text is not None
    assert found.recall == min(found.image, found.text)
    assert collection.measure_recall(np.empty((0, DIM)), n_queries=40, limit=10).text is None
    monkeypatch.setattr(Tuning, "effort_for", lambda *_: (1, 1.0))
    monkeypatch.setattr("nearlight.store.generations.search.n_candidates", lambda wanted: wanted)
    worse = collection.measure_recall(texts, n_queries=40, limit=10)
    assert worse.recall < found.recall


def test_texts_that_were_asked_tune_the_next_index(store: Store, fill: Fill) -> None:
    collection = fill(600)
    sealed = collection._head.view.sealed
    assert sealed is not None
    assert {point.text_recall for point in sealed.generation.tuning.points} == {None}
    asked: list[str] = []

    def bank(space_id: str) -> np.ndarray:
        asked.append(space_id)
        return clustered(20, 8)

    store.indexes.ask_texts = bank
    collection.answer(clustered(5, 6), limit=3, modality="text")
    collection.answer(clustered(5, 7), limit=3)
    assert len(collection.work.texts) == 5
    from nearlight.store import IndexSettings
    from tests.store.generations.conftest import kept

    collection.update(index=IndexSettings(kind="hnsw", hnsw_m=16))
    kept(store)
    assert asked == ["s"]
    sealed = collection._head.view.sealed
    assert sealed is not None
    assert all(point.text_recall is not None for point in sealed.generation.tuning.points)
