"""A store in a temporary folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nearlight.store import Collection, Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "data", n_threads=2) as opened:
        yield opened


@pytest.fixture
def collection(store: Store) -> Collection:
    """An empty collection of dim 4 in space `s`."""
    return store.create_collection("photos", space_id="s", dim=4)
