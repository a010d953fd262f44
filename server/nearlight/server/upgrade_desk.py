"""The calls that change a collection's model: start, look, steer, and send what the store has not kept."""

from collections.abc import Callable, Mapping

from nearlight.server.catalog import Catalog
from nearlight.server.config import LimitsConfig
from nearlight.server.convert.upgrades import (
    check_queries,
    check_start,
    id_json,
    seq_after,
    source_of,
    upgrade_message,
)
from nearlight.server.convert.values import check_count, enum_name, fitting, item_error, page_size_of
from nearlight.server.errors import InvalidInput, ModelFailure, NotPossible, ServerError
from nearlight.server.upgrade_counts import UpgradeCounts
from nearlight.server.upgrade_evaluation import UpgradeEvaluation
from nearlight.server.upgrader import Upgrader
from nearlight.store import Target, Upgrade, UpgradeRefused, Upgrades
from nearlight.v1 import maintenance_pb2


class UpgradeDesk:
    """Answers the calls about upgrades.

    Args:
        catalog: collections and models.
        upgrader: fills in the background.
        evaluation: compares the spaces.
        limits: of the server.
        counts: says how far an upgrade is.
    """

    def __init__(
        self,
        catalog: Catalog,
        upgrader: Upgrader,
        evaluation: UpgradeEvaluation,
        limits: LimitsConfig,
        counts: UpgradeCounts,
    ) -> None:
        self._catalog = catalog
        self._upgrader = upgrader
        self._evaluation = evaluation
        self._limits = limits
        self._counts = counts

    @property
    def _upgrades(self) -> Upgrades:
        return self._catalog.embedded("an upgrade").upgrades

    async def start(self, request: maintenance_pb2.StartUpgradeRequest) -> maintenance_pb2.UpgradeInfo:
        """Begin an upgrade, or go on with it."""
        name = self._name(request.collection)
        check_start(request)
        model = self._catalog.models.get(request.model)
        info = self._catalog.collection(name).info
        old = self._catalog.models.of_space(info.space_id)
        target = Target(
            model.space_id, model.manifest.dim, str(model.folder), round(request.max_points_per_second, 6)
        )
        upgrade = await self._catalog.run(lambda: self._upgrades.start(name, target))
        for one in (model, old):  # so that a restart finds them
            if one is not None:
                await self._catalog.run(self._note(one.space_id, one.name, str(one.folder)))
        self._upgrader.wake(name)
        return await self._info(name, upgrade, is_fresh=True)

    async def get(self, request: maintenance_pb2.GetUpgradeRequest) -> maintenance_pb2.UpgradeInfo:
        """How far an upgrade is."""
        name = self._name(request.collection)
        return await self._info(name, self._upgrades.get(name), is_fresh=False)

    async def control(self, request: maintenance_pb2.ControlUpgradeRequest) -> maintenance_pb2.UpgradeInfo:
        """Move an upgrade on."""
        name = self._name(request.collection)
        action = enum_name(maintenance_pb2.UpgradeAction, request.action, "action")
        queries = check_queries(request)
        drop = request.drop_missing
        steps: Mapping[str, Callable[[], Upgrade]] = {
            "UPGRADE_ACTION_PAUSE": lambda: self._upgrades.set_state(name, "paused"),
            "UPGRADE_ACTION_RESUME": lambda: self._resume(name),
            "UPGRADE_ACTION_PROMOTE": lambda: self._upgrades.promote(name, drop_missing=drop),
            "UPGRADE_ACTION_ROLL_BACK": lambda: self._upgrades.roll_back(name, drop_missing=drop),
            "UPGRADE_ACTION_CANCEL": lambda: self._upgrades.cancel(name),
            "UPGRADE_ACTION_CLEAN": lambda: self._upgrades.clean(name),
        }
        if action == "UPGRADE_ACTION_EVALUATE":
            await self._evaluation.evaluate(name, queries)
        elif action in steps:
            await self._catalog.run(steps[action])
            self._upgrader.wake(name)
        else:
            names = ", ".join(maintenance_pb2.UpgradeAction.keys()[1:])
            raise InvalidInput(f"action is {action}; it must be one of {names}", field="action")
        return await self._info(name, self._upgrades.get(name), is_fresh=True)

    async def failures(
        self, request: maintenance_pb2.ListUpgradeFailuresRequest
    ) -> maintenance_pb2.ListUpgradeFailuresResponse:
        """Points that could not be embedded."""
        name, size, after = self._page(request)
        found = await self._catalog.run(lambda: self._upgrades.failures(name, after, size + 1))
        return maintenance_pb2.ListUpgradeFailuresResponse(
            failures=[
                maintenance_pb2.UpgradeFailure(id_json=id_json(one.id), message=one.message)
                for one in found[:size]
            ],
            next_page_token=str(found[size - 1].seq) if len(found) > size else "",
        )

    async def wanted(
        self, request: maintenance_pb2.ListUpgradeWantedRequest
    ) -> maintenance_pb2.ListUpgradeWantedResponse:
        """Points whose original somebody must send."""
        name, size, after = self._page(request)
        found = await self._catalog.run(lambda: self._upgrades.wanted(name, after, size + 1))
        messages = [
            maintenance_pb2.UpgradeWanted(
                seq=one.seq, id_json=id_json(one.id), payload_json=one.payload.encode()
            )
            for one in found[:size]
        ]
        n = fitting(messages, self._limits.max_message_bytes)
        return maintenance_pb2.ListUpgradeWantedResponse(
            wanted=messages[:n], next_page_token=str(found[n - 1].seq) if len(found) > n else ""
        )

    async def send(
        self, request: maintenance_pb2.SendUpgradeSourcesRequest
    ) -> maintenance_pb2.SendUpgradeSourcesResponse:
        """Embed originals that somebody sends."""
        name = self._name(request.collection)
        check_count(len(request.sources), self._limits.max_batch_inputs, "sources")
        upgrade = self._upgrades.get(name)
        model = self._catalog.models.of_space(upgrade.new.space_id)
        if model is None:
            reason = f"no loaded model makes vectors of space {upgrade.new.space_id[:16]}; load it"
            raise NotPossible(reason, field="collection")
        index_of = {one.seq: i for i, one in enumerate(request.sources)}
        inputs, failed, errors = {}, dict[int, str](), dict[int, ServerError]()
        for i, one in enumerate(request.sources):
            try:
                source = source_of(one, i)
            except InvalidInput as error:
                errors[i] = error
                continue
            if isinstance(source, str):
                failed[one.seq] = source
            else:
                inputs[one.seq] = source
        await self._upgrader.pace(name, len(inputs), upgrade.max_points_per_second)
        vectors, unfit, passing = await self._upgrader.embed(model, inputs) if inputs else ({}, {}, {})
        n = await self._catalog.run(lambda: self._upgrades.write(name, vectors, failed | unfit))
        self._upgrader.tell(name)
        errors |= {index_of[seq]: error for seq, error in passing.items()}
        errors |= {index_of[seq]: _unfit(reason, index_of[seq]) for seq, reason in unfit.items()}
        return maintenance_pb2.SendUpgradeSourcesResponse(
            embedded=n,
            outdated=len(vectors) - n,
            errors=[item_error(i, error) for i, error in sorted(errors.items())],
        )

    def _resume(self, name: str) -> Upgrade:
        known = self._upgrades.get(name)
        if known.state not in ("paused", "failed"):
            raise UpgradeRefused(f"the upgrade of collection {name!r} is {known.state}: nothing to resume")
        new, rate = known.new, known.max_points_per_second
        return self._upgrades.start(name, Target(new.space_id, new.dim, known.bundle, rate))

    def _note(self, space_id: str, model: str, folder: str) -> Callable[[], None]:
        return lambda: self._upgrades.note_bundle(space_id, model, folder)

    def _name(self, given: str) -> str:
        """The collection's own name: an alias may move."""
        return self._catalog.collection(given).info.name

    def _page(
        self,
        request: maintenance_pb2.ListUpgradeFailuresRequest | maintenance_pb2.ListUpgradeWantedRequest,
    ) -> tuple[str, int, int]:
        size = page_size_of(request.page_size, default=100, largest=1000, field="page_size")
        return self._name(request.collection), size, seq_after(request.page_token)

    async def _info(self, name: str, upgrade: Upgrade, *, is_fresh: bool) -> maintenance_pb2.UpgradeInfo:
        counts = await self._catalog.run(
            lambda: self._counts.of(self._upgrades, name, upgrade, is_fresh=is_fresh)
        )
        return upgrade_message(name, upgrade, counts, self._catalog.models)


def _unfit(reason: str, i: int) -> ServerError:
    field = f"sources[{i}]"
    if reason == "internal error":
        return ModelFailure(reason, field=field)
    return InvalidInput(reason, field=field)
