"""What the collections of an engine do not have."""

from typing import NoReturn

from nearlight.store.calibrations import NONE, Nulls
from nearlight.store.engines.collection import EngineCollection
from nearlight.store.errors import NotOnThisEngine
from nearlight.store.points import F32
from nearlight.store.snapshots import SnapshotInfo


class NoCalibrations:
    """Of an engine's collections: there are none.

    Args:
        engine: its name.
    """

    def __init__(self, engine: str) -> None:
        self._engine = engine

    def get(self, collection: object) -> Nulls:
        """None."""
        return NONE

    def level(self, collection: object, modality: str, query: F32) -> float:
        """Refused."""
        _refuse("relevance", self._engine)

    def fit(self, collection: object, text_bank: F32 | None, seed: int = 0) -> Nulls:
        """Refused."""
        _refuse("Calibrate", self._engine)


class NoSnapshots:
    """Of an engine's collections: it has its own backups.

    Args:
        engine: its name.
    """

    def __init__(self, engine: str) -> None:
        self._engine = engine

    def create(self, name: str) -> SnapshotInfo:
        """Refused."""
        _refuse("CreateSnapshot", self._engine)

    def list(self) -> list[SnapshotInfo]:
        """None."""
        return []

    def delete(self, snapshot: str) -> None:
        """Refused."""
        _refuse("DeleteSnapshot", self._engine)

    def restore(self, snapshot: str, name: str) -> EngineCollection:
        """Refused."""
        _refuse("RestoreSnapshot", self._engine)


def _refuse(what: str, engine: str) -> NoReturn:
    raise NotOnThisEngine(f"{what} is for collections of the embedded store; these are in {engine}")
