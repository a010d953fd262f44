"""Conditions on the id and the payload of points: what they are, what they mean, how they are looked up."""

from nearlight.store.filters.checks import check_filter as check_filter
from nearlight.store.filters.conditions import Filter as Filter
