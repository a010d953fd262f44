"""The figures that are looked up when they are asked for: queues, models, the store, the process."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from nearlight.server.call import LANES
from nearlight.server.health import Health, Phase
from nearlight.server.models import LoadedModel, Models
from nearlight.server.upgrade_counts import UpgradeCounts
from nearlight.store import Store, StoreError, VectorStore


class State(Collector):
    """Asks a running server.

    Args:
        models: loaded.
        health: of the server.
        store: open.
        data_folder: where the store's files are.
        upgrade_counts: says how far upgrades are.
    """

    def __init__(
        self,
        models: Models,
        health: Health,
        store: VectorStore,
        data_folder: Path,
        upgrade_counts: UpgradeCounts,
    ) -> None:
        self._models = models
        self._health = health
        self._store = store
        self._data_folder = data_folder
        self._upgrade_counts = upgrade_counts

    def describe(self) -> list[Metric]:
        """Nothing in advance: registering must not ask."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Called by the thread of a scrape."""
        models = self._models.all()
        is_serving = self._health.phase is Phase.SERVING and all(model.is_alive for model in models)
        yield GaugeMetricFamily(
            "nearlight_serving", "1 while calls are taken and every model works.", value=float(is_serving)
        )
        yield _models(models)
        yield _queues(models)
        yield _sessions(models)
        yield from self._collections()
        if isinstance(self._store, Store):
            yield self._upgrades(self._store)
        yield GaugeMetricFamily(
            "nearlight_store_bytes", "Size of the files of the data folder.", value=_size(self._data_folder)
        )

    def _collections(self) -> Iterator[Metric]:
        points, head, dead, recall = (
            GaugeMetricFamily(name, text, labels=["collection"])
            for name, text in (
                ("nearlight_collection_points", "Points."),
                (
                    "nearlight_collection_head_points",
                    "Points that are compared one by one, beside the index where there is one.",
                ),
                ("nearlight_collection_tombstones", "Dead points that are still in the index."),
                (
                    "nearlight_collection_estimated_recall",
                    "Recall@10 of the index, measured on vectors held out when it was built.",
                ),
            )
        )
        try:
            for info in self._store.collections():
                points.add_metric([info.name], info.count)
                head.add_metric([info.name], info.index.head_points)
                dead.add_metric([info.name], info.index.tombstones)
                if info.index.generation:
                    recall.add_metric([info.name], info.index.estimated_recall)
        except StoreError:  # it is being closed
            return
        yield from (points, head, dead, recall)

    def _upgrades(self, store: Store) -> Metric:
        """Of the upgrades that keep vectors of both spaces."""
        family = GaugeMetricFamily(
            "nearlight_upgrade_points",
            "Points of a collection that changes its model: with a vector of the new space (done), that will "
            "be embedded here (pending), whose image somebody must send (wanted), that could not be embedded "
            "(failed), that are left out of searches (left_out).",
            labels=["collection", "part"],
        )
        with suppress(StoreError):  # it is over, or the store is being closed
            for info in store.collections():
                if not info.other_space_id:
                    continue
                upgrade = store.upgrades.get(info.name)
                counts = self._upgrade_counts.of(store.upgrades, info.name, upgrade)
                for part in ("done", "pending", "wanted", "failed", "left_out"):
                    family.add_metric([info.name, part], getattr(counts, part))
        return family


def _models(models: list[LoadedModel]) -> Metric:
    family = GaugeMetricFamily(
        "nearlight_model", "1 while the model works.", labels=["model", "precision", "provider"]
    )
    for model in models:
        engine = model.towers["image"].facts
        family.add_metric([model.name, engine.precision, engine.provider], float(model.is_alive))
    return family


def _queues(models: list[LoadedModel]) -> Metric:
    family = GaugeMetricFamily(
        "nearlight_queue_rows", "Decoded inputs that wait for the engine.", labels=["tower", "lane"]
    )
    for model in models:
        for tower in model.towers.values():
            for lane in LANES:
                family.add_metric([tower.name, lane], tower.batcher.waiting(lane))
    return family


def _sessions(models: list[LoadedModel]) -> Metric:
    family = GaugeMetricFamily("nearlight_engine_sessions", "Engines that work.", labels=["tower"])
    for model in models:
        for tower in model.towers.values():
            family.add_metric([tower.name], tower.batcher.alive)
    return family


def _size(folder: Path) -> int:
    """Bytes of all files below; one that goes while we look counts nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(place, name)).st_size
            except OSError:
                continue
    return total
