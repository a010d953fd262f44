import pytest

from nearlight.store.filters.instants import day_of, instant_us

SECOND = 1_000_000


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:01.5z", 1_500_000),
        ("1970-01-01 01:00:00+01:00", 0),
        ("1970-01-01T00:00:00-00:30", 1800 * SECOND),
        ("1970-01-02", 86_400 * SECOND),
        ("1970-01-01T00:01", 60 * SECOND),
        ("1969-12-31T23:59:59.9999999Z", -1),  # digits beyond microseconds are dropped
        ("2016-12-31T23:59:60Z", 1_483_228_800 * SECOND),  # the leap second
        ("0001-01-01T00:00:00+23:59", -62_135_683_140 * SECOND),
    ],
)
def test_a_moment_is_read(text: str, us: int) -> None:
    assert instant_us(text) == us


@pytest.mark.parametrize(
    "text",
    ["", "2026", "2026-11", "20261123", "2026-W47-1", "2026-11-23T", "2026-11-23T08", "2026-11-23T24:00:00Z"]
    + ["2026-02-29", "2026-11-23T08:00:00+24:00", "2026-11-23T08:00:61Z", "0000-01-01", "٢٠٢٦-11-23"]
    + ["2026-11-23T08:00:00Z ", "2026-11-23T08:00:00.Z", "2026-11-23T08:00:00Z\n"],
)
def test_what_is_no_moment_is_none(text: str) -> None:
    assert instant_us(text) is None


def test_days_stop_at_the_edges_of_the_calendar() -> None:
    assert day_of(0, -1) == "1969-12-31"
    assert day_of(instant_us("0001-01-01") or 0, -1) == "0000-00-00"
    assert day_of(instant_us("9999-12-31") or 0, 1) == "9999-99-99"
