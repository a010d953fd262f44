"""One suite over the embedded store, Milvus (Lite) and Qdrant (local): same data and questions, same answers.

Whatever a test leaves open for an engine is a row of `differences`.
"""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from nearlight.store import (
    AliasChange,
    AliasNotFound,
    CollectionExists,
    CollectionNotFound,
    DeleteAlias,
    Filter,
    InvalidCollection,
    InvalidPoint,
    InvalidQuery,
    Order,
    Point,
    PointId,
    SetAlias,
    StoreError,
    VectorCollection,
    VectorStore,
    WrongSpace,
)
from nearlight.store.filters import conditions as c
from tests.store.engines.asking import found, matching
from tests.store.filters import oracle

DIM = 8
N = 120
_numbers = itertools.count()


def name() -> str:
    return f"c-{next(_numbers)}.x_y"


def vectors(n: int, seed: int = 0) -> Any:
    rows = np.random.default_rng(seed).normal(size=(n, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


IDS: list[PointId] = [*oracle.IDS, 7, "7", 2**63, 2**63 - 1, '"', "\\", "a'b", "x" * 512, "日本", "ID", "id"]
IDS += [i * 10**15 + 3 if i % 2 else f"photo {i}.jpg" for i in range(N - len(IDS))]
VALUES: list[Any] = [None, True, False, *oracle.TEXTS, *oracle.DAYS, *oracle.INTEGERS, *oracle.HUGE]
VALUES += [*oracle.FLOATS, *oracle.PLACES, [], {}, ["x", "y"], ["x"], [0, 3], [1.5, 7], [1, "x", None]]
VALUES += [[{"lat": 52.4, "lon": 13.3}, {"lat": 0, "lon": 0}], ["2026-11-20", "2026-11-30"], "xyz" * 30]


def payload(i: int) -> dict[str, Any]:
    made = {"n": i, "part": i / 7, "color": ["red", "green", "blue"][i % 3], "k": VALUES[i % len(VALUES)]}
    if i % 4:
        made["in"] = {"a.b": VALUES[(i * 7) % len(VALUES)], "deep": {"er": [i % 5, str(i % 5)]}}
    return made


PAYLOADS = [payload(i) for i in range(N)]
POINTS = [Point(one, vector, made) for one, vector, made in zip(IDS, vectors(N), PAYLOADS, strict=True)]


@pytest.fixture(scope="module")
def filled(store: VectorStore) -> VectorCollection:
    """Not to be changed."""
    made = store.create_collection(name(), space_id="s", dim=DIM)
    made.upsert(POINTS)
    return made


@pytest.fixture
def empty(store: VectorStore) -> Iterator[VectorCollection]:
    made = store.create_collection(name(), space_id="s", dim=DIM)
    yield made
    store.delete_collection(made.info.name)


def on(test: Any, *path: str) -> Filter:
    return Filter(must=(c.Field(path or ("k",), test),))


BERLIN = c.GeoPoint(52.5, 13.4)
ANY_X = frozenset({"x", "xy"})
FILTERS = [
    Filter(),
    on(c.Keyword("x")),
    on(c.Keyword("x\x00y")),
    on(c.Keyword("' OR 1=1 --")),
    on(c.Keyword("red"), "color"),
    on(c.Integer(1)),
    on(c.Integer(2**53 + 1)),
    on(c.Boolean(True)),
    on(c.AnyKeyword(ANY_X)),
    on(c.AnyInteger(frozenset({0, 1, -(2**63)}))),
    on(c.AnyKeyword(frozenset())),
    on(c.ExceptKeyword(ANY_X)),
    on(c.ExceptInteger(frozenset({0, 1}))),
    on(c.Prefix("x")),
    on(c.Prefix("xyzxy")),
    on(c.Prefix("xyzxq")),
    on(c.Prefix("")),
    on(c.Prefix("%")),
    on(c.Range(gte=10.0, lt=20.0), "n"),
    on(c.Range(gt=3.3), "part"),
    on(c.Range(gt=1.0, lt=2.0)),
    on(c.Range(gt=float(2**53))),
    on(c.Range(lte=float("inf"))),
    on(c.IntegerRange(gte=0, lte=2)),
    on(c.IntegerRange(gt=2**53)),
    on(c.DatetimeRange(gte="2026-11-23T08:00:00Z")),
    on(c.DatetimeRange(gt="2026-11-21", lt="2026-11-24T00:00:00+02:00")),
    on(c.GeoRadius(BERLIN, 20_000.0)),
    on(c.GeoBox(c.GeoPoint(53.0, 13.0), c.GeoPoint(52.0, 14.0))),
    on(c.GeoBox(c.GeoPoint(10.0, 179.0), c.GeoPoint(-10.0, -179.0))),
    on(c.ValuesCount(c.IntegerRange(gte=2))),
    on(c.ValuesCount(c.IntegerRange(lte=1)), "in", "deep", "er"),
    on(c.Keyword("3"), "in", "deep", "er"),
    on(c.Keyword("x"), "in", "a.b"),
    Filter(must=(c.IsEmpty(("k",)),)),
    Filter(must_not=(c.IsEmpty(("in", "a.b")),)),
    Filter(must=(c.IsNull(("k",)),)),
    Filter(must=(c.HasId(frozenset({1, "1", 7, "x" * 512, 2**64 - 1, "nobody"})),)),
    Filter(must_not=(c.HasId(frozenset({1, "7", "日本"})), c.Field(("color",), c.Keyword("red")))),
    Filter(
        should=(
            c.Field(("color",), c.Keyword("red")),
            c.Field(("n",), c.Range(lt=30.0)),
            c.Field(("part",), c.Range(gt=2.0)),
            c.Field(("k",), c.ExceptKeyword(ANY_X)),
        ),
        min_should=2,
    ),
    Filter(
        must=(
            Filter(should=(c.IsNull(("k",)), Filter(must_not=(c.Field(("n",), c.Range(lt=50.0, gte=2.0)),)))),
        ),
        must_not=(c.Field(("k",), c.GeoRadius(BERLIN, 2e6)),),
    ),
    Filter(should=(c.IsNull(("k",)),), min_should=2),
]


def passing(filter: Filter) -> list[int]:
    return [i for i in range(N) if oracle.passes(filter, IDS[i], PAYLOADS[i])]


def nearest(query: Any, among: list[int]) -> list[tuple[PointId, float]]:
    scores = np.array([POINTS[i].vector for i in among]).reshape(-1, DIM) @ query
    return [(IDS[among[i]], float(scores[i])) for i in np.argsort(-scores, kind="stable")]


def same_hits(hits: Any, wanted: list[tuple[PointId, float]]) -> None:
    assert [hit.id for hit in hits] == [one[0] for one in wanted]
    assert [hit.score for hit in hits] == pytest.approx([one[1] for one in wanted], abs=1e-5)


@pytest.mark.parametrize("filter", FILTERS, ids=range(len(FILTERS)))
def test_a_filter_passes_the_same_points(filtered: VectorCollection, filter: Filter) -> None:
    among, query = passing(filter), vectors(1, seed=5)[0]
    [hits], n = matching(filtered, query[None], filter, limit=N)
    assert n == len(among) == filtered.count(filter)
    same_hits(hits, nearest(query, among))


@pytest.fixture(scope="module")
def filtered(filled: VectorCollection) -> VectorCollection:
    assert filled.count() == N
    return filled


def test_hits_carry_what_was_asked_for(filled: VectorCollection) -> None:
    queries = vectors(3, seed=1)
    plain = found(filled, queries, limit=5, offset=2)
    full = found(filled, queries * 9, limit=5, offset=2, with_payload=False, with_vectors=True)
    for query, hits, others in zip(queries, plain, full, strict=True):
        same_hits(hits, nearest(query, list(range(N)))[2:7])
        assert [hit.id for hit in others] == [hit.id for hit in hits]
        for hit, other in zip(hits, others, strict=True):
            at = IDS.index(hit.id) if not isinstance(hit.id, bool) else -1
            assert (hit.payload, hit.vector, other.payload) == (PAYLOADS[at], None, None)
            assert json.dumps(hit.payload, sort_keys=True) == json.dumps(PAYLOADS[at], sort_keys=True)
            assert other.vector == pytest.approx(POINTS[at].vector, abs=1e-6)
            assert hit.seq == other.seq > 0


def test_a_threshold_cuts_before_the_offset(filled: VectorCollection) -> None:
    query = vectors(1, seed=2)[0]
    wanted = [one for one in nearest(query, list(range(N))) if one[1] >= 0.4]
    assert 3 < len(wanted) < N
    same_hits(found(filled, query[None], limit=N, offset=2, score_threshold=0.4)[0], wanted[2:])
    assert found(filled, query[None], limit=N, offset=len(wanted), score_threshold=0.4) == [[]]
    assert found(filled, query[None], limit=3, score_threshold=1.5) == [[]]


def test_best_score_puts_what_is_nearer_to_a_negative_behind(filled: VectorCollection) -> None:
    wanted, unwanted = vectors(2, seed=3), vectors(2, seed=4)
    filter = on(c.Range(lt=100.0), "n")
    rows = np.array([POINTS[i].vector for i in passing(filter)])
    best = (rows @ wanted.T).max(axis=1)
    behind = (rows @ unwanted.T).max(axis=1) > best
    order = sorted(range(len(rows)), key=lambda i: (behind[i], -best[i]))
    for limit, offset in ((5, 0), (7, 3), (N, 0)):
        hits, n = filled.search_best_score(wanted, unwanted, filter, limit=limit, offset=offset)
        assert n == len(rows)
        same_hits(hits, [(IDS[i], float(best[i])) for i in order][offset : offset + limit])


def test_groups(filled: VectorCollection) -> None:
    query = vectors(1, seed=6)[0]
    groups = filled.search_groups(query, ("color",), n_groups=2, group_size=3, left_out=[1, "1"])
    ranked = [one for one in nearest(query, list(range(N))) if str(one[0]) != "1"]
    by_color: dict[str, list[tuple[PointId, float]]] = {}
    for one in ranked:
        by_color.setdefault(PAYLOADS[IDS.index(one[0])]["color"], []).append(one)
    assert [group.value for group in groups] == list(by_color)[:2]
    for group in groups:
        same_hits(group.hits, by_color[str(group.value)][:3])


def test_get_keeps_the_order_and_skips_what_is_not_there(filled: VectorCollection) -> None:
    records = filled.get(["7", 2**64 - 1, "nobody", 7, 1, "a\x00b"], with_vectors=True)
    assert [record.id for record in records] == ["7", 2**64 - 1, 7, 1, "a\x00b"]
    assert [record.payload for record in records] == [PAYLOADS[IDS.index(one.id)] for one in records]
    assert records[0].vector == pytest.approx(POINTS[IDS.index("7")].vector, abs=1e-6)


@pytest.mark.parametrize("filter", [None, on(c.Keyword("red"), "color"), on(c.GeoRadius(BERLIN, 2e6))])
@pytest.mark.parametrize("limit", [1, 50, N, 1000])
def test_a_scroll_gives_every_point_once(filled: VectorCollection, filter: Filter | None, limit: int) -> None:
    among = {IDS[i] for i in passing(filter or Filter())}
    if limit == 1:
        among, n_pages = set(), 5
    else:
        n_pages = N
    seen, after = [], None
    for _ in range(n_pages):
        records, after = filled.scroll(after, limit=limit, filter=filter)
        assert len(records) <= limit
        seen += [record.id for record in records]
        if after is None:
            break
    assert len(seen) == len(set(map(repr, seen)))
    assert limit == 1 or set(seen) == among
    integers = [one for one in seen if isinstance(one, int)]
    assert integers == sorted(integers) == seen[: len(integers)]


def test_an_ordered_scroll(filled: VectorCollection) -> None:
    filter = on(c.Keyword("green"), "color")
    seen, after = [], None
    while True:
        records, after = filled.scroll_in_order(Order(("n",), True), after, limit=11, filter=filter)
        seen += [record.payload["n"] for record in records]
        if after is None:
            break
    assert seen == sorted((i for i in range(N) if i % 3 == 1), reverse=True)


def test_writes_replace_and_deletes_count(empty: VectorCollection) -> None:
    a, b = vectors(2)
    first = empty.upsert([Point("a", a, {"v": 1}), Point(1, a, {"v": 1}), Point("a", b, {"v": 2})])
    assert empty.count() == 2
    assert empty.get(["a"])[0].payload == {"v": 2}
    second = empty.upsert([Point("a", a * 5, {"v": 3})])
    assert second > first
    assert empty.get(["a"])[0].seq == second <= empty.info.last_seq
    assert found(empty, a[None], limit=1)[0][0].score == pytest.approx(1)
    assert empty.delete(["1", "a", "a", "nobody"]) == 1
    assert [record.id for record in empty.scroll()[0]] == [1]
    assert empty.delete(on(c.Integer(2), "v")) == 0
    assert empty.delete(on(c.Integer(1), "v")) == 1
    assert empty.count() == 0
    assert found(empty, a[None], limit=3) == [[]]
    assert empty.upsert([]) >= second


def test_payloads_change(empty: VectorCollection) -> None:
    rows = vectors(4)
    empty.upsert([Point(i, row, {"v": i, "in": {"x": 1}}) for i, row in enumerate(rows)])
    before = empty.get([0, 1], with_vectors=True)
    changed = empty.set_payload([0, 9], {"y": "new"}, path=("in",))
    assert changed.n_points == 1
    assert changed.seq > before[0].seq
    assert empty.get([0])[0].payload == {"v": 0, "in": {"x": 1, "y": "new"}}
    assert empty.set_payload([0], {"y": "new"}, path=("in",)).n_points == 0
    assert empty.count(on(c.Keyword("new"), "in", "y")) == 1
    assert empty.set_payload(on(c.IntegerRange(gte=2), "v"), {"only": True}, replace=True).n_points == 2
    assert [record.payload for record in empty.get([2, 3])] == [{"only": True}] * 2
    assert empty.delete_payload(Filter(), [("in", "x"), ("nothing",)]).n_points == 2
    assert empty.get([1])[0].payload == {"v": 1, "in": {}}
    assert empty.delete_payload([1]).n_points == 1
    assert empty.count(Filter(must=(c.IsEmpty(("v",)),))) == 3
    after = empty.get([0, 1], with_vectors=True)
    for one, other in zip(before, after, strict=True):
        assert other.vector == pytest.approx(one.vector, abs=1e-6)
        assert other.seq > one.seq


@pytest.mark.parametrize(
    ("point", "where"),
    [
        (Point("", np.ones(DIM), {}), "id"),
        (Point(2**64, np.ones(DIM), {}), "id"),
        (Point("a", np.ones(DIM - 1), {}), "vector"),
        (Point("a", np.zeros(DIM), {}), "vector"),
        (Point("a", np.full(DIM, np.nan), {}), "vector"),
        (Point("a", np.ones(DIM), {"x": float("nan")}), "payload.x"),
    ],
)
def test_a_bad_point_stores_nothing(filled: VectorCollection, point: Point, where: str) -> None:
    with pytest.raises(InvalidPoint) as error:
        filled.upsert([Point("fresh", np.ones(DIM), {}), point])
    assert error.value.field == f"points[1].{where}"
    assert filled.get(["fresh"]) == []


def test_bad_questions_are_refused_alike(filled: VectorCollection) -> None:
    ones = np.ones((1, DIM))
    for ask in (
        lambda: found(filled, ones, limit=0),
        lambda: found(filled, ones, limit=1, offset=-1),
        lambda: found(filled, np.ones((1, DIM + 1)), limit=1),
        lambda: found(filled, ones * np.inf, limit=1),
        lambda: found(filled, ones, limit=1, score_threshold=float("nan")),
        lambda: filled.count(on(c.Range(gt=float("nan")))),
        lambda: filled.scroll(limit=0),
        lambda: filled.search_groups(ones[0], (), n_groups=1),
        lambda: filled.search_best_score(ones[:0], ones, limit=1),
        lambda: filled.set_payload([1], {}, path=("",) * 20),
    ):
        with pytest.raises(InvalidQuery):
            ask()
    with pytest.raises(InvalidPoint):
        filled.get([""])
    with pytest.raises(WrongSpace):
        found(filled, ones, limit=1, space_id="other")
    with pytest.raises(WrongSpace):
        filled.upsert([POINTS[0]], space_id="other")


def test_the_life_of_a_collection(store: VectorStore) -> None:
    one, alias = name(), name()
    metadata = {"owner": "ü", "n": [1, 2.5, None]}
    made = store.create_collection(one, space_id="sha256:x", dim=3, metadata=metadata)
    info = store.collection(one).info
    assert (info.name, info.space_id, info.dim, info.count) == (one, "sha256:x", 3, 0)
    assert (info.metadata, info.aliases) == (metadata, ())
    assert one in [other.name for other in store.collections()]
    with pytest.raises(CollectionExists):
        store.create_collection(one, space_id="s", dim=3)
    for bad, space_id, dim in ((".x", "s", 3), (name(), "s", 0), (name(), "", 3)):
        with pytest.raises(InvalidCollection):
            store.create_collection(bad, space_id=space_id, dim=dim)
    store.update_aliases([SetAlias(alias, one)])
    with pytest.raises(CollectionNotFound, match="alias"):
        store.delete_collection(alias)
    store.delete_collection(one)
    assert alias not in store.aliases()
    for gone in (lambda: store.collection(one), lambda: made.count(), lambda: made.get([1])):
        with pytest.raises(CollectionNotFound):
            gone()
    again = store.create_collection(one, space_id="t", dim=5)
    assert (again.count(), again.info.dim) == (0, 5)
    store.delete_collection(one)


def test_aliases(store: VectorStore, filled: VectorCollection, empty: VectorCollection) -> None:
    a, b = filled.info.name, empty.info.name
    first, second = name(), name()
    store.update_aliases([SetAlias(first, a), SetAlias(second, a)])
    assert store.collection(first).info.name == a
    assert store.collection(a).info.aliases == tuple(sorted((first, second)))
    store.update_aliases([SetAlias(first, b), DeleteAlias(second)])
    assert {first: b}.items() <= store.aliases().items()
    assert second not in store.aliases()
    assert store.collection(first).count() == 0
    refused: list[tuple[list[AliasChange], type[StoreError]]] = [
        ([SetAlias(second, a), DeleteAlias("nobody")], AliasNotFound),
        ([SetAlias(second, a), SetAlias("other", "nobody")], CollectionNotFound),
        ([SetAlias(second, a), SetAlias(b, a)], CollectionExists),
        ([SetAlias(second, a), SetAlias("..", a)], InvalidCollection),
    ]
    for changes, error in refused:
        with pytest.raises(error):
            store.update_aliases(changes)
        assert second not in store.aliases()
    with pytest.raises(CollectionExists):
        store.create_collection(first, space_id="s", dim=3)
    store.update_aliases([DeleteAlias(first)])
