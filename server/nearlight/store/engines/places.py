"""Bounds of the conditions on places: ranges of latitude and longitude around them, and inside of them."""

from math import cos, degrees, radians, sin, sqrt

from nearlight.store.engines.expressions import EVERYTHING, Number, Pair, all_of, any_of, no_token
from nearlight.store.engines.facets import has, least, most, token
from nearlight.store.filters.conditions import GeoBox, GeoPoint, GeoRadius, Path
from nearlight.store.filters.sphere import EARTH_RADIUS_M, Candidates, distance_m


def within_ranges(path: Path, ranges: Candidates) -> Pair:
    """A place in ranges of latitude and longitude; sure where there is only one."""
    south, north = ranges.lat
    lat = [
        Number(most(path, "lat"), has(path, "lat"), ">=", south),
        Number(least(path, "lat"), has(path, "lat"), "<=", north),
    ]
    lon = [
        all_of(
            (
                Number(most(path, "lon"), has(path, "lon"), ">=", west),
                Number(least(path, "lon"), has(path, "lon"), "<=", east),
            )
        )
        for west, east in ranges.lon
    ]
    upper = all_of((*lat, any_of(lon) if lon else EVERYTHING))
    return all_of((upper, no_token(token(path, "places")))), upper


def ranges_of_box(box: GeoBox) -> Candidates:
    """The box itself."""
    west, east = box.top_left.lon, box.bottom_right.lon
    lat = (float(box.bottom_right.lat), float(box.top_left.lat))
    if west <= east:
        return Candidates(lat, ((float(west), float(east)),))
    return Candidates(lat, ((float(west), 180.0), (-180.0, float(east))))


def ranges_inside(circle: GeoRadius) -> Candidates | None:
    """A box inside a circle; None where it would touch a pole or the 180th meridian.

    On a sphere the farthest point of a box less than 90 degrees to either side is a corner.
    """
    center = circle.center
    high = circle.radius_m / EARTH_RADIUS_M / sqrt(2)
    north, south = center.lat + degrees(high), center.lat - degrees(high)
    if north >= 89 or south <= -89:
        return None
    nearest_equator = 0.0 if south <= 0 <= north else min(abs(south), abs(north))
    left = sin(high / sqrt(2)) ** 2 - sin(high / 2) ** 2  # what the latitude leaves to the longitude
    share = left / (cos(radians(center.lat)) * cos(radians(nearest_equator)))
    if not 0 < share < 0.5:
        return None
    wide_deg = degrees(2 * share**0.5) * 0.999
    west, east = center.lon - wide_deg, center.lon + wide_deg
    corners = [GeoPoint(lat, east) for lat in (south, north)]
    if west <= -180 or east >= 180 or max(distance_m(center, corner) for corner in corners) > circle.radius_m:
        return None
    return Candidates((south, north), ((west, east),))
