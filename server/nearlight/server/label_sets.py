"""Stored label sets: put, get, list, delete, and the set that a Classify names."""

import re
from functools import partial

from nearlight.server.call import F32
from nearlight.server.catalog import Catalog
from nearlight.server.classifier import LabelPrompts, PrototypeCache
from nearlight.server.config import LimitsConfig
from nearlight.server.convert.label_sets import label_set_message, label_set_of
from nearlight.server.convert.values import fitting, page_size_of
from nearlight.server.errors import InvalidInput
from nearlight.server.log import get_logger
from nearlight.server.models import LoadedModel
from nearlight.store import LabelSet, StoreError
from nearlight.v1 import embedding_pb2

log = get_logger(__name__)

READ_AT_ONCE = 32
_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")


class LabelSetDesk:
    """Answers the label set calls of EmbeddingService.

    Args:
        catalog: the store's door, and the models.
        limits: of the server.
    """

    def __init__(self, catalog: Catalog, limits: LimitsConfig) -> None:
        self._catalog = catalog
        self._limits = limits

    async def put(self, request: embedding_pb2.PutLabelSetRequest) -> embedding_pb2.LabelSet:
        """Store a set, or replace the one of its name.

        Raises:
            ServerError: see `label_set_of`; the model is not loaded.
            StoreError: the name or a number is refused, or the name is taken.
        """
        message = request.label_set
        wanted = label_set_of(message, self._catalog.models.get(message.model), self._limits)
        stored = await self._catalog.run(
            lambda: self._catalog.store.label_sets.put(wanted, only_if_absent=request.only_if_absent)
        )
        return label_set_message(stored)

    async def get(self, name: str, field: str = "name") -> LabelSet:
        """The set of this name.

        Raises:
            InvalidInput: no name.
            LabelSetNotFound: no such set.
        """
        if not name:
            raise InvalidInput(f"{field} is empty; it must name a label set", field=field)
        return await self._catalog.run(lambda: self._catalog.store.label_sets.get(name))

    async def prototypes(
        self, stored: LabelSet | None, model: LoadedModel, wish: LabelPrompts, cache: PrototypeCache
    ) -> tuple[F32, bool]:
        """The prototypes (L, D) of a call, and whether they were known; a set of their space keeps them.

        Args:
            stored: the set that the call names, if it does.
            model: that answers.
            wish: the labels.
            cache: of the process.

        Raises:
            ServerError: a prompt cannot be embedded.
        """
        own = stored if stored is not None and stored.space_id == model.space_id else None
        key, sets = wish.key(model.space_id), self._catalog.store.label_sets
        if own is not None and not cache.knows(key):
            kept = await self._catalog.run(lambda: sets.prototypes(own, key))
            if kept is not None:
                cache.keep(key, kept)
        found, is_known = await cache.get(model, wish)
        if own is not None and not is_known:
            try:
                await self._catalog.run(lambda: sets.keep_prototypes(own, key, found))
            except StoreError as error:  # the next start computes them again
                log.warning("prototypes could not be kept", label_set=own.name, reason=str(error))
        return found, is_known

    async def page(self, request: embedding_pb2.ListLabelSetsRequest) -> embedding_pb2.ListLabelSetsResponse:
        """One page of the sets, ordered by name, as long as a message may be.

        Raises:
            InvalidInput: the page is too large, or the token is not one of ours.
        """
        size = page_size_of(request.page_size, default=100, largest=1000, field="page_size")
        after = request.page_token
        if after and not _NAME.fullmatch(after):
            reason = f"page_token is {after[:80]!r}; it is not one this server gave"
            raise InvalidInput(reason, field="page_token")
        messages: list[embedding_pb2.LabelSet] = []
        while len(messages) <= size:  # one more than the page holds tells whether there is a next
            begin, limit = messages[-1].name if messages else after, min(READ_AT_ONCE, size + 1)
            found = await self._catalog.run(partial(self._catalog.store.label_sets.page, begin, limit))
            messages += map(label_set_message, found)
            if len(found) < limit or fitting(messages, self._limits.max_message_bytes) < len(messages):
                break
        n = min(fitting(messages, self._limits.max_message_bytes), size)
        token = messages[n - 1].name if n < len(messages) else ""
        return embedding_pb2.ListLabelSetsResponse(label_sets=messages[:n], next_page_token=token)

    async def delete(
        self, request: embedding_pb2.DeleteLabelSetRequest
    ) -> embedding_pb2.DeleteLabelSetResponse:
        """Delete a set.

        Raises:
            LabelSetNotFound: no such set.
        """
        name = (await self.get(request.name)).name
        await self._catalog.run(lambda: self._catalog.store.label_sets.delete(name))
        return embedding_pb2.DeleteLabelSetResponse()
