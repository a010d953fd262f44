import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nearlight.store.filters.conditions import GeoBox, GeoPoint, GeoRadius
from nearlight.store.filters.sphere import (
    EARTH_RADIUS_M,
    Candidates,
    candidates_of_box,
    candidates_of_radius,
    distance_m,
    is_in_box,
)

points = st.builds(GeoPoint, st.floats(-90, 90), st.floats(-180, 180))


def is_candidate(candidates: Candidates, place: GeoPoint) -> bool:
    in_lat = candidates.lat[0] <= place.lat <= candidates.lat[1]
    in_lon = not candidates.lon or any(west <= place.lon <= east for west, east in candidates.lon)
    return in_lat and in_lon


def test_distances_that_are_known() -> None:
    berlin, paris = GeoPoint(52.52, 13.405), GeoPoint(48.8566, 2.3522)
    assert distance_m(berlin, paris) == pytest.approx(877_500, rel=1e-3)
    assert distance_m(GeoPoint(0, 0), GeoPoint(0, 180)) == pytest.approx(3.141592653589793 * EARTH_RADIUS_M)
    assert distance_m(GeoPoint(0, 179.5), GeoPoint(0, -179.5)) == pytest.approx(111_195, rel=1e-3)


@given(points, points, st.floats(1e-3, 3e7))
@example(GeoPoint(89.9, 0.0), GeoPoint(89.9, 180.0), 30_000.0)
@example(GeoPoint(0.0, 179.9), GeoPoint(0.0, -179.9), 30_000.0)
@example(GeoPoint(60.0, 0.0), GeoPoint(60.0, 1.0), 55_600.0)
def test_nothing_within_a_circle_is_outside_its_candidates(
    center: GeoPoint, place: GeoPoint, radius_m: float
) -> None:
    if distance_m(center, place) <= radius_m:
        assert is_candidate(candidates_of_radius(GeoRadius(center, radius_m)), place)


@given(points, points, points)
def test_nothing_in_a_box_is_outside_its_candidates(a: GeoPoint, b: GeoPoint, place: GeoPoint) -> None:
    box = GeoBox(GeoPoint(max(a.lat, b.lat), a.lon), GeoPoint(min(a.lat, b.lat), b.lon))
    if is_in_box(box, place):
        assert is_candidate(candidates_of_box(box), place)
