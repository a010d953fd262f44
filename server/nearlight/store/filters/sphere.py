"""Distances and boxes on the Earth, taken as a sphere."""

import math
from dataclasses import dataclass

from nearlight.store.filters.conditions import GeoBox, GeoPoint, GeoRadius

EARTH_RADIUS_M = 6_371_008.8  # the mean radius, as Qdrant's geo library has it
_SLACK_DEG = 1e-6  # a tenth of a metre: far more than rounding


@dataclass(frozen=True, slots=True)
class Candidates:
    """A box, a little too large, outside of which nothing passes.

    Attributes:
        lat: lowest and highest latitude, degrees.
        lon: ranges of longitude, degrees; none: any longitude.
    """

    lat: tuple[float, float]
    lon: tuple[tuple[float, float], ...] = ()


def distance_m(a: GeoPoint, b: GeoPoint) -> float:
    """Metres between two places along the sphere, by the haversine formula."""
    lat_a, lat_b = math.radians(a.lat), math.radians(b.lat)
    half_lat, half_lon = (lat_b - lat_a) / 2, math.radians(b.lon - a.lon) / 2
    chord = math.sin(half_lat) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin(half_lon) ** 2
    return 2 * EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(chord)))


def is_in_box(box: GeoBox, place: GeoPoint) -> bool:
    """Is the place in the box, or on its edge?"""
    west, east = box.top_left.lon, box.bottom_right.lon
    if not box.bottom_right.lat <= place.lat <= box.top_left.lat:
        return False
    return west <= place.lon <= east if west <= east else place.lon >= west or place.lon <= east


def candidates_of_box(box: GeoBox) -> Candidates:
    """The box itself, in ranges."""
    west, east = box.top_left.lon - _SLACK_DEG, box.bottom_right.lon + _SLACK_DEG
    lat = (box.bottom_right.lat - _SLACK_DEG, box.top_left.lat + _SLACK_DEG)
    if box.top_left.lon <= box.bottom_right.lon:
        return Candidates(lat, ((west, east),))
    return Candidates(lat, ((west, 181.0), (-181.0, east)))


def candidates_of_radius(circle: GeoRadius) -> Candidates:
    """The box around a circle; of any longitude where the circle touches a pole or the 180th meridian."""
    angle = circle.radius_m / EARTH_RADIUS_M
    reach_deg = min(math.degrees(angle), 360.0) + _SLACK_DEG
    lat = (circle.center.lat - reach_deg, circle.center.lat + reach_deg)
    if lat[0] <= -90 or lat[1] >= 90:
        return Candidates(lat)
    share = math.sin(angle) / math.cos(math.radians(circle.center.lat))
    wide_deg = math.degrees(math.asin(min(1.0, share))) + _SLACK_DEG
    west, east = circle.center.lon - wide_deg, circle.center.lon + wide_deg
    return Candidates(lat, ((west, east),) if west > -180 and east < 180 else ())
