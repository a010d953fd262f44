"""The store's door for handlers: its blocking calls run in a few threads of their own."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeAlias, TypeVar

from nearlight.server.errors import InvalidInput, NotPossible, WrongSpace
from nearlight.server.models import LoadedModel, Models
from nearlight.store import (
    Collection,
    CollectionFacts,
    CollectionInfo,
    NotOnThisEngine,
    SpaceChanged,
    Store,
    StoreCorrupt,
    StoreError,
    VectorCollection,
    VectorStore,
)

Result = TypeVar("Result")
Facts: TypeAlias = CollectionFacts | CollectionInfo
ATTEMPTS = 4


class Catalog:
    """Collections, and the models that embed for them.

    Args:
        store: open; closed by `close`.
        models: loaded.
        threads: that read and write.
        on_failure: told "store" when the store fails as a whole.
    """

    def __init__(
        self, store: VectorStore, models: Models, threads: int, on_failure: Callable[[str], None]
    ) -> None:
        self._on_failure = on_failure
        self.models = models
        self.store = store
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="store")

    async def run(self, work: Callable[[], Result]) -> Result:
        """Run a blocking call of the store. A caller that leaves does not stop a write under way."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except StoreError as error:
            # Its subclasses blame the call; the root and corruption mean that the store itself has failed.
            if type(error) is StoreError or isinstance(error, StoreCorrupt):
                self._on_failure("store")
            raise

    def collection(self, name: str, field: str = "collection") -> VectorCollection:
        """A collection by name; only a look into a dictionary.

        Raises:
            InvalidInput: no name.
            CollectionNotFound: no such collection.
        """
        if not name:
            raise InvalidInput(f"{field} is empty; it must name a collection", field=field)
        return self.store.collection(name)

    async def with_collection(
        self, name: str, work: Callable[[VectorCollection], Awaitable[Result]], field: str = "collection"
    ) -> Result:
        """Do something with a collection; again from the start where it changes its model meanwhile.

        Raises:
            SpaceChanged: it does so again and again.
            What `collection` and `work` raise.
        """
        for _ in range(ATTEMPTS - 1):
            try:
                return await work(self.collection(name, field))
            except SpaceChanged:
                continue
        return await work(self.collection(name, field))

    async def info(self, name: str, field: str = "collection") -> CollectionInfo:
        """A collection with the number of points that it has now, which an engine may have to be asked for.

        Raises:
            InvalidInput: no name.
            StoreError: no such collection.
        """
        collection = self.collection(name, field)
        return replace(collection.info, count=await self.run(collection.count))

    def embedded(self, what: str) -> Store:
        """The embedded store, for what no engine does.

        Raises:
            NotOnThisEngine: the collections are in an engine.
        """
        if not isinstance(self.store, Store):
            raise NotOnThisEngine(f"{what}: only the embedded store can, and this server has another")
        return self.store

    def embedded_collection(self, name: str, what: str, field: str = "collection") -> Collection:
        """A collection of the embedded store; see `embedded` and `collection`."""
        store = self.embedded(what)
        self.collection(name, field)  # says what is wrong with the name
        return store.collection(name)

    def model_for(self, info: Facts) -> LoadedModel:
        """The model that embeds into a collection's space.

        Raises:
            NotPossible: none is loaded: vectors of any other would be garbage there.
        """
        model = self.models.of_space(info.space_id)
        if model is None:
            raise NotPossible(
                f"collection {info.name!r} is of space {info.space_id[:16]}, and no loaded model makes "
                "vectors of it; send vectors or ids, or serve its model",
                field="collection",
            )
        return model

    def close(self) -> None:
        """Finish the calls under way, then close the store."""
        self._threads.shutdown(wait=True)
        self.store.close()


def check_space(given: str, info: Facts) -> None:
    """Refuse vectors that the caller knows to be of another space.

    Raises:
        WrongSpace: `given` is set and is not the collection's.
    """
    if given and given != info.space_id:
        raise WrongSpace(
            f"space_id is {given[:80]!r}; collection {info.name!r} is of space {info.space_id!r}",
            field="space_id",
        )


def check_min_seq(min_seq: int, info: Facts) -> None:
    """Every acknowledged write is visible at once, so a seq that exists can be read.

    Raises:
        InvalidInput: a seq that was never given out.
    """
    if min_seq > info.last_seq:
        raise InvalidInput(f"min_seq is {min_seq}; the collection's last is {info.last_seq}", field="min_seq")
