"""Moments written as RFC 3339 text, as integers that compare exactly."""

import re
from datetime import date
from functools import lru_cache

_EPOCH_DAY = date(1970, 1, 1).toordinal()
_DAY_S = 86_400
_FORM = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,64}))?)?([Zz]|[+-]\d\d:\d\d)?)?",
    re.ASCII,
)


@lru_cache(maxsize=4096)
def instant_us(text: str) -> int | None:
    """Microseconds since 1970 UTC, or None where the text is not a moment.

    Takes RFC 3339 and what Qdrant takes besides: no zone (UTC), a space for the T, no seconds, the date
    alone (midnight). A leap second is the first of the next minute. Digits beyond microseconds are dropped.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    try:
        days = date(int(year), int(month), int(day)).toordinal() - _EPOCH_DAY
    except ValueError:
        return None
    hours, minutes, seconds = int(hour or 0), int(minute or 0), int(second or 0)
    offset_s = _offset_s(zone or "Z")
    if hours > 23 or minutes > 59 or seconds > 60 or offset_s is None:
        return None
    whole_s = days * _DAY_S + hours * 3600 + minutes * 60 + seconds - offset_s
    return whole_s * 1_000_000 + int((fraction or "0")[:6].ljust(6, "0"))


def day_of(us: int, days_later: int) -> str:
    """The date (UTC) some days after a moment as `YYYY-MM-DD`, at the edges of the calendar the edge."""
    ordinal = us // (_DAY_S * 1_000_000) + _EPOCH_DAY + days_later
    if ordinal < 1:
        return "0000-00-00"
    if ordinal > date.max.toordinal():
        return "9999-99-99"
    return date.fromordinal(ordinal).isoformat()


def _offset_s(zone: str) -> int | None:
    if zone in "Zz":
        return 0
    hours, minutes = int(zone[1:3]), int(zone[4:6])
    if hours > 23 or minutes > 59:
        return None
    return (-1 if zone[0] == "-" else 1) * (hours * 3600 + minutes * 60)
