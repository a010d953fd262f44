"""Models that come and go while calls are in flight: loaded beside others, retired when nobody holds them."""

import asyncio
import ctypes
import gc
import re
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from nearlight.bundle.errors import BundleError
from nearlight.bundle.folder import Bundle
from nearlight.bundle.manifest import FILE_NAME
from nearlight.bundle.registry import packaged_bundles
from nearlight.server.errors import BundleUnusable, InvalidInput
from nearlight.server.log import get_logger
from nearlight.server.models import LoadedModel, Models, Tower

log = get_logger(__name__)

_NAME = re.compile(FILE_NAME)
# Between looks for reference cycles that keep a retired model alive.
SWEEP_SECONDS = 0.5
# Characters of what the caller sent that an error repeats.
_SHOWN = 200


class ModelLoader:
    """Loads and unloads. One change at a time, while calls go on.

    Args:
        models: in service.
        load: makes a model of a bundle; takes seconds, runs in a thread.
        folders: bundles may be loaded from these and from inside them.
        drain_seconds: how long calls may hold a model that was unloaded.
    """

    def __init__(
        self,
        models: Models,
        load: Callable[[Bundle], LoadedModel],
        folders: Sequence[Path],
        drain_seconds: float,
    ) -> None:
        self._models = models
        self._load = load
        self._folders = [folder.resolve() for folder in folders]
        self._drain_seconds = drain_seconds
        self._changing = asyncio.Lock()

    async def load(
        self, bundle: str, name: str = "", aliases: Sequence[str] = (), *, make_default: bool = False
    ) -> LoadedModel:
        """Put a bundle into service; until it is warm and checked nothing changes for anyone.

        A caller that leaves does not stop it.

        Raises:
            InvalidInput: no bundle, one from elsewhere, or one whose vectors are not its golden ones.
            AlreadyExists: the name is taken, or an alias is the name of a model.
        """
        for given, field in ((name, "name"), *((alias, "aliases") for alias in aliases)):
            check_model_name(given, field, may_be_empty=field == "name")
        return await asyncio.shield(self._load_one(bundle, name, aliases, make_default))

    async def unload(self, name: str) -> None:
        """Take a model out of service, wait until no call holds it, and give its memory back.

        Raises:
            NotFound: no model has this name.
            NotPossible: it is the default and not the only one, or an alias points to it.
        """
        async with self._changing:
            retirement = Retirement(self._models.remove(name))
        await asyncio.shield(retirement.finish(self._drain_seconds))

    async def _load_one(
        self, where: str, name: str, aliases: Sequence[str], make_default: bool
    ) -> LoadedModel:
        async with self._changing:
            bundle = await asyncio.to_thread(self._open, where, name)
            self._models.names.check_free(bundle.manifest.name, aliases)
            try:
                model = await asyncio.to_thread(self._load, bundle)
            except BundleUnusable as error:
                raise _unusable(where, error) from error
            try:
                self._models.add(model, aliases, make_default=make_default)
            except BaseException:
                await asyncio.to_thread(model.close)
                raise
            log.info("model loaded", model=model.name, aliases=list(aliases), default=make_default)
            return model

    def _open(self, where: str, name: str) -> Bundle:
        try:
            bundle = Bundle.open(self._find(where))
        except (BundleError, OSError, ValueError) as error:  # such as a path too long, or with a zero byte
            raise _unusable(where, error) from error
        manifest = bundle.manifest
        return Bundle(bundle.path, manifest.model_copy(update={"name": name})) if name else bundle

    def _find(self, where: str) -> Path:
        """The folder meant; a place that is not allowed is not even looked at."""
        if not where:
            raise InvalidInput("bundle is empty; it must name a folder or a shipped bundle", field="bundle")
        packaged = {folder.name: folder for folder in packaged_bundles()}
        if where in packaged:
            return packaged[where]
        path = Path(where).resolve()
        if any(path.is_relative_to(folder) for folder in self._folders):
            return path
        raise InvalidInput(
            f"bundle {where[:_SHOWN]!r} is neither inside a folder of `model_folders` nor one of the "
            f"shipped bundles ({', '.join(packaged) or 'there are none'})",
            field="bundle",
        )


def _unusable(where: str, error: Exception) -> InvalidInput:
    # Cut: an error travels in headers, and those of more than 8 KiB are refused on the way.
    return InvalidInput(f"bundle {where[:_SHOWN]!r}: {str(error)[: 5 * _SHOWN]}", field="bundle")


class Retirement:
    """The end of a model that was taken out of service.

    Calls hold their model while they need it, and nothing else does: when its last reference is gone, so is
    the last call. Its threads and sessions end then, not before.

    Args:
        model: no longer in `Models`; the caller must let go of it too.
    """

    def __init__(self, model: LoadedModel) -> None:
        self._name = model.name
        self._towers = list(model.towers.values())
        self._unheld = asyncio.Event()
        loop, event = asyncio.get_running_loop(), self._unheld

        def tell() -> None:
            with suppress(RuntimeError):  # the loop is closed: the process is ending
                loop.call_soon_threadsafe(event.set)

        weakref.finalize(model, tell).atexit = False

    async def finish(self, seconds: float) -> None:
        """Wait until no call holds it, at most so long, then end it."""
        try:
            async with asyncio.timeout(seconds):
                while not self._unheld.is_set():
                    # An error on its way to a caller may keep a call's frame alive in a cycle.
                    await asyncio.to_thread(gc.collect)
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._unheld.wait(), SWEEP_SECONDS)
        except TimeoutError:
            log.warning("an unloaded model is still held; ending it", model=self._name, drain_seconds=seconds)
        towers, self._towers = self._towers, []
        await asyncio.to_thread(_end, towers)
        log.info("model unloaded", model=self._name)


def _end(towers: list[Tower]) -> None:
    for tower in towers:
        tower.batcher.close()
    towers.clear()
    gc.collect()
    give_back_memory()


def give_back_memory() -> None:
    """Ask the C library to return freed memory to the system; others than glibc do so by themselves."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def check_model_name(name: str, field: str, *, may_be_empty: bool = False) -> None:
    """Refuse what cannot be a model's name.

    Raises:
        InvalidInput: says what a name is.
    """
    if not (name or may_be_empty) or (name and not _NAME.fullmatch(name)):
        raise InvalidInput(
            f"{field} is {name[:80]!r}; it must be 1 to 128 letters, digits, '.', '_' or '-', the first a "
            "letter or digit",
            field=field,
        )
