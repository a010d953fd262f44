"""Figures of a server, read from its metrics port, and what two readings tell about the time between them."""

from __future__ import annotations

import math
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from nearlight.client.errors import NotReady

MAX_BYTES = 16 * 1024 * 1024
_SAMPLE = re.compile(r"([A-Za-z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPES = {r"\n": "\n", r"\"": '"', r"\\": "\\"}

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """All figures of a server at one moment.

    Attributes:
        at: seconds on the clock of ``time.monotonic``.
        values: name and ordered labels to value.
    """

    at: float
    values: Mapping[tuple[str, Labels], float]

    def matching(self, name: str, **labels: str) -> Iterator[tuple[dict[str, str], float]]:
        """Yields labels and value of every sample of this name that has these labels."""
        for (found, pairs), value in self.values.items():
            if found == name and set(labels.items()) <= set(pairs):
                yield dict(pairs), value

    def total(self, name: str, **labels: str) -> float:
        """Returns the sum of the samples of this name that have these labels; 0.0 where there is none."""
        return math.fsum(value for _, value in self.matching(name, **labels))

    def label_values(self, name: str, label: str) -> list[str]:
        """Returns what a label is in the samples of this name, ordered."""
        return sorted({labels[label] for labels, _ in self.matching(name) if label in labels})


@dataclass(frozen=True, slots=True)
class Span:
    """The time between two readings of one server."""

    before: Reading
    after: Reading

    @property
    def seconds(self) -> float:
        """How long it was; > 0."""
        return max(self.after.at - self.before.at, 1e-9)

    def increase(self, name: str, **labels: str) -> float:
        """Returns by how much a counter grew; a server that began anew counts from 0."""
        grown = self.after.total(name, **labels) - self.before.total(name, **labels)
        return grown if grown >= 0 else self.after.total(name, **labels)

    def rate(self, name: str, **labels: str) -> float:
        """Returns a counter's growth per second."""
        return self.increase(name, **labels) / self.seconds

    def mean(self, name: str, **labels: str) -> float | None:
        """Returns the mean of what a histogram saw, or None where it saw nothing."""
        count = self.increase(f"{name}_count", **labels)
        return self.increase(f"{name}_sum", **labels) / count if count else None

    def quantile(self, q: float, name: str, **labels: str) -> float | None:
        """Returns a quantile of what a histogram saw, by straight lines inside buckets, as Prometheus does.

        Args:
            q: 0 to 1.
            name: of the histogram.
            labels: that its samples must have.
        """
        bounds = sorted({float(le) for le in self.after.label_values(f"{name}_bucket", "le")})
        counts = [self.increase(f"{name}_bucket", **labels, le=_le(bound)) for bound in bounds]
        return quantile_of(q, list(zip(bounds, counts, strict=True)))


def quantile_of(q: float, buckets: list[tuple[float, float]]) -> float | None:
    """Returns the q-quantile of cumulative buckets (upper bound, count), the last bound being infinite.

    In the last bucket it is the highest finite bound: more is not known. None where nothing was counted.
    """
    if not buckets or not buckets[-1][1]:
        return None
    rank = q * buckets[-1][1]
    low, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= rank and count > below:
            return low if math.isinf(bound) else low + (bound - low) * (rank - below) / (count - below)
        low, below = bound, count
    return low


def parse(text: str) -> dict[tuple[str, Labels], float]:
    """Returns the samples of Prometheus' text format; lines that are none are passed over."""
    found = {}
    for line in text.splitlines():
        match = None if line.startswith("#") else _SAMPLE.match(line)
        if match:
            labels = ((key, _unescaped(value)) for key, value in _LABEL.findall(match[2] or ""))
            found[match[1], tuple(sorted(labels))] = float(match[3])
    return found


def read(address: str, timeout: float = 5.0) -> Reading:
    """Reads the figures of a server.

    Args:
        address: "host:port", or a URL that ends where "/metrics" follows.
        timeout: seconds.

    Raises:
        NotReady: nothing answers there, or not with figures.
    """
    url = f"{address if '://' in address else f'http://{address}'}".rstrip("/").removesuffix("/metrics")
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=timeout) as reply:
            text = reply.read(MAX_BYTES).decode(errors="replace")
        values = parse(text)
    except (OSError, ValueError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", error)
        raise NotReady(f"no metrics at {url}/metrics: {reason}") from None
    if not any(name.startswith("nearlight_") for name, _ in values):
        raise NotReady(f"{url}/metrics answers, but it is no Nearlight server")
    return Reading(time.monotonic(), values)


def rates_by(span: Span, name: str, label: str) -> Iterable[tuple[str, float]]:
    """Yields the rate for each value of a label, the highest first; those at 0 are left out."""
    rates = [(value, span.rate(name, **{label: value})) for value in span.after.label_values(name, label)]
    return sorted(((value, rate) for value, rate in rates if rate), key=lambda pair: -pair[1])


def _le(bound: float) -> str:
    """As Prometheus writes a bound."""
    return "+Inf" if math.isinf(bound) else repr(bound)


def _unescaped(value: str) -> str:
    return re.sub(r"\\.", lambda match: _ESCAPES.get(match[0], match[0]), value)
