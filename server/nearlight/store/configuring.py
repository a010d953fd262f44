"""What a collection was made with, and what makes its filters and searches fast: all of it may change."""

import json
from collections.abc import Mapping
from typing import Any

from nearlight.store.collection_search import CollectionSearch
from nearlight.store.creating import metadata_text
from nearlight.store.durability import Durability, check_durability
from nearlight.store.errors import InvalidQuery, shown
from nearlight.store.filters.checks import check_path
from nearlight.store.filters.conditions import Path
from nearlight.store.filters.indexes import PAYLOAD_KINDS, change_index
from nearlight.store.generations.settings import IndexSettings, store_settings
from nearlight.store.points import PayloadIndex, PayloadKind
from nearlight.store.writer import Transaction


class CollectionSettings(CollectionSearch):
    """Changes how a collection is kept. Its methods block and any thread may call them."""

    def create_payload_index(self, path: Path, kind: PayloadKind) -> None:
        """Make filters on a payload key fast; writes wait while it is filled. One that is there is no error.

        Args:
            path: the keys that lead to the values.
            kind: the values it holds: strings, integers, numbers, truth values, moments or places.

        Raises:
            InvalidQuery: the path or the kind is refused.
            PayloadIndexExists: the key has one of another kind.
        """
        if kind not in PAYLOAD_KINDS:
            raise InvalidQuery("kind", shown(kind), f"it must be one of {', '.join(PAYLOAD_KINDS)}")
        self._change_index(path, kind)

    def delete_payload_index(self, path: Path) -> None:
        """Remove the index of a payload key; filters on it stay right.

        Raises:
            InvalidQuery: the path is refused.
            PayloadIndexNotFound: the key has none.
        """
        self._change_index(path, None)

    def update(
        self,
        *,
        metadata: Mapping[str, Any] | None = None,
        durability: Durability | None = None,
        index: IndexSettings | None = None,
    ) -> None:
        """Change what the collection was made with, all of it or nothing; what is None stays.

        Args:
            metadata: takes the place of the old.
            durability: of its writes from now on.
            index: how it is indexed; an index that is due then is built in the background.

        Raises:
            InvalidCollection: one is refused.
        """
        self._check_here()
        text = None if metadata is None else metadata_text(metadata)
        if durability is not None:
            check_durability(durability)
        if index is not None:
            index.check()

        def write(transaction: Transaction) -> None:
            self._check_here()
            if text is not None:
                statement = "UPDATE collections SET metadata = ? WHERE collection_id = ?"
                transaction.connection.execute(statement, (text, self._place.collection_id))
            if durability is not None:
                self._durabilities.keep(transaction, self._place, durability)
            if index is not None:
                store_settings(transaction.connection, self._place.collection_id, index)

        def publish(_: None) -> None:
            if text is not None:
                self._family.show_metadata(json.loads(text))
            if durability is not None:
                self._durabilities.show(self._place, durability)
            if index is not None:
                self._family.show_index_settings(index)

        self._writer.run(write, publish)

    def _change_index(self, path: Path, kind: PayloadKind | None) -> None:
        self._check_here()
        check_path(path, "key")

        def write(transaction: Transaction) -> tuple[PayloadIndex, ...]:
            self._check_here()
            return change_index(transaction.connection, self._place.collection_id, path, kind)

        self._writer.run(write, self._family.show_payload_indexes)
