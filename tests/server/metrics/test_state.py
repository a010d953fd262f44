"""Figures of upgrades, of a real store that changes its model."""

from pathlib import Path
from typing import Any, cast

from nearlight.server.metrics.state import State
from nearlight.server.upgrade_counts import UpgradeCounts
from nearlight.store import Store
from tests.store.two_models import DIMS, fill, point, target


def parts_of(state: State, store: Store) -> dict[str, float]:
    return {sample.labels["part"]: sample.value for sample in state._upgrades(store).samples}


def test_an_upgrade_shows_how_far_it_is(tmp_path: Path) -> None:
    nothing: Any = cast(Any, None)
    with Store.open(tmp_path, n_threads=1) as store:
        made = store.create_collection("c", space_id="old", dim=DIMS["old"], keeps_originals=True)
        made.upsert([point(made, f"{i}", f"text {i}", keep=i < 6) for i in range(10)])
        counts = UpgradeCounts()
        state = State(nothing, nothing, store, tmp_path, counts)
        assert parts_of(state, store) == {}
        store.upgrades.start("c", target("new"))
        assert parts_of(state, store) == {"done": 0, "pending": 6, "wanted": 4, "failed": 0, "left_out": 0}
        fill(store, "c", "new", limit=3, batches=1)
        counts.of(store.upgrades, "c", store.upgrades.get("c"), is_fresh=True)
        assert parts_of(state, store) == {"done": 3, "pending": 3, "wanted": 4, "failed": 0, "left_out": 0}
        fill(store, "c", "new")
        store.upgrades.promote("c")
        store.upgrades.clean("c")
        assert parts_of(state, store) == {}
