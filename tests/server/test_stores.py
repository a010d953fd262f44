from collections.abc import Callable
from pathlib import Path

import pytest

from nearlight.server.config import MIB, ServerConfig
from nearlight.server.stores import open_store
from nearlight.store import Store


@pytest.mark.parametrize("mib", [0, 3])
def test_rows_are_remembered_within_what_is_configured(
    mib: int, tmp_path: Path, config_of: Callable[..., ServerConfig]
) -> None:
    store = open_store(config_of([], tmp_path, store={"row_cache_mib": mib}), lambda _: None)
    assert isinstance(store, Store)
    assert store.row_cache.max_bytes == mib * MIB
    store.close()
