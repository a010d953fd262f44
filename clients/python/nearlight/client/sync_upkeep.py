"""What the blocking client does for order: models, label sets, checks, snapshots, calibrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from nearlight.client import collections as collection_plans
from nearlight.client import duplicates as duplicate_plans
from nearlight.client import indexes as index_plans
from nearlight.client import label_sets as label_set_plans
from nearlight.client import maintenance as maintenance_plans
from nearlight.client import models as model_plans
from nearlight.client import relevance as relevance_plans
from nearlight.client import upgrades as upgrade_plans
from nearlight.client.duplicates import DuplicateOptions
from nearlight.client.index_values import IndexConfig, Recall
from nearlight.client.label_sets import LabelSet
from nearlight.client.models import AliasChanges, LoadModelOptions, UnloadModelOptions
from nearlight.client.relevance import CollectionCalibration
from nearlight.client.sync_calls import Caller
from nearlight.client.terms import Durability
from nearlight.client.upgrades import (
    Original,
    OriginalsSent,
    Upgrade,
    UpgradeFailure,
    UpgradeStep,
    WantedOriginal,
)
from nearlight.client.values import CollectionInfo, Hit, ModelInfo, PayloadKind, Snapshot, Verification


class Upkeep:
    """The part of ``Client`` that changes what a server serves and checks what it keeps.

    Args:
        caller: makes the calls.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    # ---- models

    def load_model(self, bundle: str, **options: Unpack[LoadModelOptions]) -> ModelInfo:
        """Loads a bundle from the server's disk; on return it is in service; see LoadModelOptions."""
        return self._caller.run(model_plans.load_model(bundle, options), model_plans.patience(options))

    def unload_model(self, name: str, **options: Unpack[UnloadModelOptions]) -> None:
        """Takes a model out of service; returns when calls in flight are done and its memory is free."""
        self._caller.run(model_plans.unload_model(name), model_plans.patience(options))

    def update_model_aliases(self, **changes: Unpack[AliasChanges]) -> dict[str, str]:
        """Changes aliases and the default model, all or nothing; returns every alias there is then."""
        return self._caller.run(model_plans.update_model_aliases(changes), changes.get("timeout"))

    # ---- label sets

    def put_label_set(
        self, label_set: LabelSet, *, only_if_absent: bool = False, timeout: float | None = None
    ) -> LabelSet:
        """Stores labels under a name, in place of the set of that name; returns the set as stored."""
        return self._caller.run(label_set_plans.put_label_set(label_set, only_if_absent), timeout)

    def label_set(self, name: str, *, timeout: float | None = None) -> LabelSet:
        """Returns one label set by name."""
        return self._caller.run(label_set_plans.label_set(name), timeout)

    def label_sets(self, *, timeout: float | None = None) -> list[LabelSet]:
        """Returns the label sets, ordered by name."""
        return self._caller.run(label_set_plans.label_sets(), timeout)

    def delete_label_set(self, name: str, *, timeout: float | None = None) -> None:
        """Deletes a label set."""
        self._caller.run(label_set_plans.delete_label_set(name), timeout)

    # ---- collections as a whole

    def update_collection(
        self,
        name: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        durability: Durability | None = None,
        timeout: float | None = None,
    ) -> CollectionInfo:
        """Changes metadata or durability of a collection; what is None stays."""
        return self._caller.run(collection_plans.update_collection(name, metadata, durability), timeout)

    def find_duplicates(self, collection: str, **options: Unpack[DuplicateOptions]) -> list[tuple[Hit, ...]]:
        """Returns groups of points that show (nearly) the same, largest first; see DuplicateOptions."""
        plan = duplicate_plans.find_duplicates(collection, **options)
        return self._caller.run(plan, options.get("timeout"))

    def verify(self, collection: str, *, sample: int = 0, timeout: float | None = None) -> Verification:
        """Returns whether what searches read is what is stored; ``sample`` points must find themselves."""
        return self._caller.run(maintenance_plans.verify(collection, sample), timeout)

    def measure_recall(
        self, collection: str, *, queries: int = 0, limit: int = 0, timeout: float | None = None
    ) -> Recall:
        """Compares ``queries`` searches (200) for ``limit`` hits (10) with exact ones, now."""
        return self._caller.run(index_plans.measure_recall(collection, queries, limit), timeout)

    def configure_index(
        self, collection: str, config: IndexConfig, *, timeout: float | None = None
    ) -> CollectionInfo:
        """Changes how a collection is indexed; an index that is due then is built in the background."""
        return self._caller.run(index_plans.configure_index(collection, config), timeout)

    def create_snapshot(self, collection: str, *, timeout: float | None = None) -> Snapshot:
        """Copies a collection while it serves."""
        return self._caller.run(maintenance_plans.create_snapshot(collection), timeout)

    def snapshots(self, collection: str = "", *, timeout: float | None = None) -> list[Snapshot]:
        """Returns the snapshots, of all collections or of one, newest first."""
        return self._caller.run(maintenance_plans.snapshots(collection), timeout)

    def delete_snapshot(self, snapshot: str, *, timeout: float | None = None) -> None:
        """Removes a snapshot."""
        self._caller.run(maintenance_plans.delete_snapshot(snapshot), timeout)

    def restore_snapshot(
        self, snapshot: str, collection: str, *, timeout: float | None = None
    ) -> CollectionInfo:
        """Makes a new collection of a snapshot, once its checksums hold: whole, or not at all."""
        return self._caller.run(maintenance_plans.restore_snapshot(snapshot, collection), timeout)

    def calibrate_collection(self, name: str, *, timeout: float | None = None) -> CollectionCalibration:
        """Fits the relevance of a collection's hits to its points as they are now."""
        return self._caller.run(relevance_plans.calibrate_collection(name), timeout)

    # ---- changing the model of a collection

    def start_upgrade(
        self, collection: str, model: str, *, max_points_per_second: float = 0, timeout: float | None = None
    ) -> Upgrade:
        """Begins to embed a collection anew with another loaded model, or goes on with it; see Upgrade."""
        return self._caller.run(upgrade_plans.start(collection, model, max_points_per_second), timeout)

    def upgrade(self, collection: str, *, timeout: float | None = None) -> Upgrade:
        """Returns how far the last upgrade of a collection is."""
        return self._caller.run(upgrade_plans.get(collection), timeout)

    def control_upgrade(
        self,
        collection: str,
        step: UpgradeStep,
        *,
        drop_missing: bool = False,
        queries: Sequence[str] = (),
        timeout: float | None = None,
    ) -> Upgrade:
        """Pauses, resumes, evaluates, promotes, rolls back, cancels or cleans an upgrade.

        ``drop_missing``: promote, or roll back, though points have no vector there: searches leave them out.
        ``queries``: texts to evaluate with.
        """
        plan = upgrade_plans.control(collection, step, drop_missing=drop_missing, queries=queries)
        return self._caller.run(plan, timeout)

    def upgrade_failures(self, collection: str, *, timeout: float | None = None) -> list[UpgradeFailure]:
        """Returns the points that an upgrade could not embed, and why."""
        return self._caller.run(upgrade_plans.failures(collection), timeout)

    def upgrade_wanted(
        self, collection: str, token: str = "", *, timeout: float | None = None
    ) -> tuple[list[WantedOriginal], str]:
        """Returns a page of the points whose original the server has not, and the token of the next page."""
        return self._caller.run(upgrade_plans.wanted(collection, token), timeout)

    def send_originals(
        self, collection: str, originals: Sequence[Original], *, timeout: float | None = None
    ) -> OriginalsSent:
        """Sends originals that an upgrade wants, as many as fit one message; they are embedded on return."""
        return self._caller.run(upgrade_plans.send(collection, originals), timeout)

    def aliases(self, *, timeout: float | None = None) -> dict[str, str]:
        """Returns all aliases, each with its collection."""
        return self._caller.run(collection_plans.aliases(), timeout)

    def update_aliases(
        self,
        set: Mapping[str, str] | None = None,
        delete: Sequence[str] = (),
        *,
        timeout: float | None = None,
    ) -> None:
        """Removes the aliases in ``delete``, then makes or moves those in ``set`` (alias → collection).

        All of it happens in one step, or nothing: ``update_aliases({"live": "b", "spare": "a"})`` swaps two.
        """
        self._caller.run(collection_plans.update_aliases(set or {}, delete), timeout)

    def create_payload_index(
        self, collection: str, key: str, kind: PayloadKind, *, timeout: float | None = None
    ) -> CollectionInfo:
        """Makes filters on a payload key (dots go into objects) fast; the kind says which values it holds."""
        return self._caller.run(collection_plans.create_payload_index(collection, key, kind), timeout)

    def delete_payload_index(
        self, collection: str, key: str, *, timeout: float | None = None
    ) -> CollectionInfo:
        """Removes the index of a payload key; filters on it stay right."""
        return self._caller.run(collection_plans.delete_payload_index(collection, key), timeout)
