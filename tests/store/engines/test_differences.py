"""What is declared to differ differs so, and the README says the same."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearlight.store import (
    Filter,
    InvalidPoint,
    InvalidQuery,
    NotOnThisEngine,
    Order,
    Point,
    SetAlias,
    Store,
    VectorCollection,
    VectorStore,
)
from nearlight.store.engines import points as engine_points
from nearlight.store.engines import resolving
from nearlight.store.engines.differences import as_markdown
from nearlight.store.engines.store import EngineStore
from nearlight.store.filters import conditions as c
from tests.store.engines.asking import found, matching
from tests.store.engines.conftest import OPEN

README = Path(__file__).resolve().parents[3] / "README.md"


def test_the_readme_has_the_table() -> None:
    assert as_markdown() in README.read_text(encoding="utf-8")


@pytest.fixture(scope="module", params=["milvus", "qdrant"])
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    store = OPEN[request.param](tmp_path_factory.mktemp(request.param))
    yield store
    store.close()


@pytest.fixture(scope="module")
def places(other: VectorStore) -> VectorCollection:
    """Forty places around a circle of a kilometre, half of them on its rim."""
    made = other.create_collection("places", space_id="s", dim=2)
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    made.upsert(
        [
            Point(i, np.array([np.cos(a), np.sin(a)]), {"at": {"lat": 0.0, "lon": 0.0085 * (i % 2)}, "n": i})
            for i, a in enumerate(angles)
        ]
    )
    return made


NEAR = Filter(must=(c.Field(("at",), c.GeoRadius(c.GeoPoint(0.0, 0.0), 1000.0)),))


def test_few_points_are_judged_and_many_refused(
    places: VectorCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert places.count(NEAR) == 40
    monkeypatch.setattr(resolving, "MAX_JUDGED", 20)
    assert places.count(NEAR) == 40
    monkeypatch.setattr(resolving, "MAX_JUDGED", 19)
    with pytest.raises(InvalidQuery, match=r"GeoRadius on 'at'; (milvus|qdrant) cannot decide .* at most 19"):
        places.count(NEAR)
    narrower = Filter(must=(*NEAR.must, c.Field(("n",), c.Range(lt=10.0))))
    assert places.count(narrower) == 10


def test_an_ordered_scroll_of_too_many(places: VectorCollection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_points, "MAX_ORDERED", 39)
    with pytest.raises(NotOnThisEngine, match="order_by: 40 points pass, and .* orders at most 39"):
        places.scroll_in_order(Order(("n",)))


def test_hits_have_a_bound(places: VectorCollection) -> None:
    with pytest.raises(InvalidQuery, match=r"offset is 16385; the limit of (milvus|qdrant) is 16384"):
        found(places, np.ones((1, 2)), limit=16_384, offset=1)
    with pytest.raises(InvalidQuery):
        matching(places, np.ones((1, 2)), NEAR, limit=1, offset=16_384)


def test_payloads_have_bounds(places: VectorCollection, other: EngineStore) -> None:
    bytes_limit, facts_limit = (65_535, 4096) if other.engine_name == "milvus" else (262_144, 65_536)
    for payload, words in (
        ({"x": "y" * bytes_limit}, rf"{bytes_limit + 8} bytes of JSON; the limit of .* is {bytes_limit}"),
        ({"x": list(range(facts_limit)), "y": 0.5}, f"facts to filter by; the limit of .* is {facts_limit}"),
    ):
        if len(str(payload)) > bytes_limit * 1.2 and "facts" in words:
            continue  # there are more bytes than facts
        with pytest.raises(InvalidPoint, match=words) as error:
            places.upsert([Point("fine", np.ones(2), {}), Point("big", np.ones(2), payload)])
        assert error.value.index == 1
    assert places.get(["fine", "big"]) == []
    assert places.upsert([Point("largest", np.ones(2), {"x": "y" * (bytes_limit - 8)})])
    assert places.delete(["largest"]) == 1


def test_seqs_are_times(places: VectorCollection) -> None:
    first = places.info.last_seq
    seq = places.upsert([Point("now", np.ones(2), {})])
    assert first <= seq <= places.info.last_seq < 10**17
    assert places.delete(["now"]) == 1


def test_what_only_the_embedded_store_has(places: VectorCollection, other: EngineStore) -> None:
    for work in (
        lambda: places.create_payload_index(("n",), "integer"),
        lambda: places.delete_payload_index(("n",)),
        lambda: other.snapshots.create("places"),
        lambda: other.snapshots.restore("a", "b"),
        lambda: other.snapshots.delete("a"),
        lambda: other.calibrations.fit(places, None),
    ):
        with pytest.raises(NotOnThisEngine, match=other.engine_name):
            work()
    assert other.snapshots.list() == []
    assert other.calibrations.get(places) == {}


def test_two_servers_see_what_the_other_makes(
    tmp_path: Path, other: EngineStore, places: VectorCollection
) -> None:
    """A second store on the same engine, as a second server has it."""
    second = EngineStore(other._engine, Store.open(tmp_path / "second"), refresh_seconds=3600)
    try:
        assert second.collection("places").count() == 40
        made = second.create_collection("theirs", space_id="t", dim=3)
        second.update_aliases([SetAlias("mine", "theirs")])
        made.upsert([Point(1, np.ones(3), {})])
        assert "theirs" not in [info.name for info in other.collections()]
        other.look()
        info = other.collection("mine").info
        assert (info.name, info.space_id, info.dim, info.count) == ("theirs", "t", 3, 1)
        mine = other.collection("theirs")
        second.delete_collection("theirs")
        other.look()
        with pytest.raises(Exception, match="was deleted"):
            mine.count()
        assert other.aliases() == second.aliases() == {}
    finally:
        second._closed.set()  # the engine is the first one's
        second._local.close()


def test_label_sets_are_in_the_data_folder(other: EngineStore) -> None:
    assert other.label_sets.page("", 10) == []
