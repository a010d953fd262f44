"""A store whose collections are in an engine; what is kept beside them stays in the data folder."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nearlight.store.aliases import AliasChange, DeleteAlias, SetAlias, aliases_of
from nearlight.store.creating import check_collection
from nearlight.store.durability import Durability, check_durability
from nearlight.store.engines.clock import Clock
from nearlight.store.engines.collection import EngineCollection
from nearlight.store.engines.engine import Definition, Engine
from nearlight.store.engines.refusals import NoCalibrations, NoSnapshots
from nearlight.store.errors import (
    AliasNotFound,
    CollectionExists,
    CollectionNotFound,
    NotOnThisEngine,
    StoreClosed,
    StoreError,
    shown,
)
from nearlight.store.generations.settings import CHOSEN, IndexSettings
from nearlight.store.label_sets import LabelSets
from nearlight.store.names import check_name
from nearlight.store.points import CollectionInfo
from nearlight.store.store import Store

_log = logging.getLogger(__name__)


class EngineStore:
    """Collections in an engine. What the methods take, give and raise is said at `Store`.

    Which collections there are is known without asking the engine; what other servers make or delete there
    is noticed when the engine is looked at again.

    Args:
        engine: closed by `close`.
        local: the store of the data folder, closed by `close`: it keeps the label sets.
        refresh_seconds: between two looks at the engine.
        on_state: told whether the engine answers, when that changes.
    """

    def __init__(
        self,
        engine: Engine,
        local: Store,
        *,
        refresh_seconds: float = 5.0,
        on_state: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._engine = engine
        self._local = local
        self._clock = Clock()
        self._collections: dict[str, EngineCollection] = {}
        self._aliases: dict[str, str] = {}
        self._changing = threading.RLock()  # guards both; never held while asking the engine
        self._life = threading.Lock()  # one change of what there is at a time, and no look meanwhile
        self._closed = threading.Event()
        self._refresh_seconds = refresh_seconds
        self._on_state = on_state
        self._answers = True
        self.calibrations = NoCalibrations(engine.name)
        self.snapshots = NoSnapshots(engine.name)
        self.look()
        self._watch = threading.Thread(target=self._keep_looking, name="store-engine", daemon=True)
        self._watch.start()

    @property
    def label_sets(self) -> LabelSets:
        """Of the data folder."""
        return self._local.label_sets

    @property
    def engine_name(self) -> str:
        """What keeps the collections."""
        return self._engine.name

    def create_collection(
        self,
        name: str,
        *,
        space_id: str,
        dim: int,
        metadata: Mapping[str, Any] | None = None,
        index: IndexSettings = CHOSEN,
        keeps_originals: bool = False,
        durability: Durability = "full",
    ) -> EngineCollection:
        """Make an empty collection, bound to one embedding space for good.

        Raises:
            NotOnThisEngine: it is to be kept in a way that the engine does not know.
        """
        self._check_open()
        check_durability(durability)
        for field, is_wanted in (
            ("index_config", index != CHOSEN),
            ("store_images", keeps_originals),
            ("durability RELAXED", durability != "full"),
        ):
            if is_wanted:
                raise NotOnThisEngine(
                    f"{field}: only the embedded store can; {self.engine_name} keeps points in its way"
                )
        text = check_collection(name, space_id, dim, metadata)
        definition = Definition(name, space_id, dim, time.time_ns() // 1_000_000, text)
        with self._life:
            with self._changing:
                if name in self._collections:
                    raise CollectionExists(f"collection {name!r} exists already")
                if name in self._aliases:
                    raise CollectionExists(f"{name!r} is an alias already")
            self._engine.create(definition)
            made = EngineCollection(self._engine, definition, self._clock)
            with self._changing:
                self._collections[name] = made
        return made

    def collection(self, name: str) -> EngineCollection:
        """The collection of this name, or of this alias."""
        self._check_open()
        with self._changing:
            found = self._collections.get(self._aliases.get(name, name))
        if found is None:
            raise CollectionNotFound(f"there is no collection {shown(name)}")
        return found

    def collections(self) -> list[CollectionInfo]:
        """All collections, by name."""
        self._check_open()
        with self._changing:
            return [self._collections[name].info for name in sorted(self._collections)]

    def delete_collection(self, name: str) -> None:
        """Delete a collection at once, with its aliases."""
        handle = self.collection(name)
        own = handle.definition.name
        if own != name:
            raise CollectionNotFound(f"{name!r} is an alias of collection {own!r}; name that one")
        with self._life:
            self._engine.drop(name)
            with self._changing:
                self._forget(name)

    def aliases(self) -> dict[str, str]:
        """All aliases, ordered, each with the name of its collection."""
        self._check_open()
        with self._changing:
            return dict(sorted(self._aliases.items()))

    def update_aliases(self, changes: Sequence[AliasChange]) -> None:
        """Make, move and remove aliases; all are checked first."""
        self._check_open()
        with self._life:
            aliases = self.aliases()
            checked = [self._checked(change, aliases) for change in changes]
            if checked:
                self._engine.change_aliases(checked)
            with self._changing:
                self._publish_aliases(aliases)

    def look(self) -> None:
        """Find out which collections and aliases the engine has, and how many points.

        Raises:
            EngineUnavailable: it does not answer.
        """
        with self._life:
            definitions = {one.name: one for one in self._engine.definitions()}
            aliases = self._engine.aliases()
            with self._changing:
                for name in self._collections.keys() - definitions.keys():
                    self._forget(name)
                for name, definition in definitions.items():
                    known = self._collections.get(name)
                    if known is None or known.definition != definition:
                        if known is not None:
                            self._forget(name)
                        self._collections[name] = EngineCollection(self._engine, definition, self._clock)
                self._publish_aliases({a: name for a, name in aliases.items() if name in definitions})
                handles = list(self._collections.values())
        for handle in handles:
            try:
                handle.count()
            except CollectionNotFound:
                continue  # deleted since

    def close(self) -> None:
        """Let go of the engine and of the data folder. Closing twice is no error."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._watch.join()
        with self._changing:
            for handle in self._collections.values():
                handle.leave(StoreClosed("the store was closed"))
        self._engine.close()
        self._local.close()

    def _checked(self, change: AliasChange, aliases: dict[str, str]) -> AliasChange:
        """A change that can be made; makes it in `aliases`."""
        if isinstance(change, DeleteAlias):
            if aliases.pop(change.alias, None) is None:
                raise AliasNotFound(f"there is no alias {shown(change.alias)}")
            return change
        check_name(change.alias, "alias")
        with self._changing:
            if change.alias in self._collections:
                raise CollectionExists(f"{change.alias!r} is the name of a collection; it cannot be an alias")
            if change.collection not in self._collections:
                raise CollectionNotFound(f"there is no collection {shown(change.collection)}")
        aliases[change.alias] = change.collection
        return SetAlias(change.alias, change.collection)

    def _publish_aliases(self, aliases: dict[str, str]) -> None:
        self._aliases = aliases
        for name, handle in self._collections.items():
            handle.aliases = aliases_of(aliases, name)

    def _forget(self, name: str) -> None:
        self._collections.pop(name).leave(CollectionNotFound(f"collection {name!r} was deleted"))
        self._publish_aliases({alias: one for alias, one in self._aliases.items() if one != name})

    def _keep_looking(self) -> None:
        while not self._closed.wait(self._refresh_seconds):
            try:
                self.look()
                self._tell(True)
            except StoreError as error:
                if self._answers:
                    _log.warning("%s fails: %s", self._engine.name, error)
                self._tell(False)

    def _tell(self, answers: bool) -> None:
        if answers != self._answers:
            self._answers = answers
            self._on_state(answers)

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise StoreClosed("the store was closed")
