import http.server
import math
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from nearlight.client.errors import NotReady
from nearlight.client.figures import Reading, Span, parse, quantile_of, rates_by, read

TEXT = """# HELP nearlight_calls_total Calls.
# TYPE nearlight_calls_total counter
nearlight_calls_total{method="a/B",status="OK"} 3.0
nearlight_calls_total{method="a/B",status="NOT_FOUND"} 1.0
nearlight_calls_total{method="c/D",status="OK"} 2.0 1700000000
odd{name="a \\"b\\", c} d \\\\ e\\n"} 1e3
plain 4
endless +Inf
"""


def test_the_text_format_is_read() -> None:
    values = parse(TEXT)
    reading = Reading(0.0, values)
    assert reading.total("nearlight_calls_total") == 6
    assert reading.total("nearlight_calls_total", method="a/B") == 4
    assert reading.total("nearlight_calls_total", method="a/B", status="OK") == 3
    assert reading.total("nothing") == 0
    assert values["odd", (("name", 'a "b", c} d \\ e\n'),)] == 1000
    assert values["plain", ()] == 4
    assert values["endless", ()] == math.inf
    assert reading.label_values("nearlight_calls_total", "method") == ["a/B", "c/D"]


def test_what_prometheus_client_writes_is_read_the_same() -> None:
    from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
    from prometheus_client.parser import text_string_to_metric_families

    registry = CollectorRegistry()
    Counter("hits", "h", ["who"], registry=registry).labels('a"b\\c\nd').inc(7)
    seen = Histogram("seconds", "s", registry=registry)
    for value in (0.1, 2.0, 100.0):
        seen.observe(value)
    text = generate_latest(registry).decode()
    expected = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert parse(text) == expected


def span(before: dict[str, float], after: dict[str, float], seconds: float = 2.0) -> Span:
    readings = [
        Reading(at, {("n", (("k", key),)): value for key, value in values.items()})
        for at, values in ((10.0, before), (10.0 + seconds, after))
    ]
    return Span(*readings)


def test_rates_and_a_server_that_began_anew() -> None:
    assert span({"a": 5}, {"a": 9}).rate("n") == 2
    assert span({}, {"a": 4}).rate("n", k="a") == 2
    assert span({"a": 100}, {"a": 6}).increase("n") == 6
    assert list(rates_by(span({"a": 1, "b": 1, "c": 1}, {"a": 2, "b": 9, "c": 1}), "n", "k")) == [
        ("b", 4.0),
        ("a", 0.5),
    ]


def test_a_quantile_lies_within_a_bucket_of_the_true_one() -> None:
    bounds = [0.001 * 2**i for i in range(14)] + [math.inf]
    values = np.random.default_rng(0).lognormal(-3, 1, 4000)
    buckets = [(bound, float((values <= bound).sum())) for bound in bounds]
    for q in (0.01, 0.5, 0.95, 0.99):
        true, found = float(np.quantile(values, q)), quantile_of(q, buckets)
        assert found is not None
        assert true / 2 <= found <= true * 2
    assert quantile_of(0.5, [(1.0, 0.0), (math.inf, 0.0)]) is None
    assert quantile_of(0.5, []) is None
    assert quantile_of(0.5, [(1.0, 0.0), (math.inf, 3.0)]) == 1.0  # more than that is not known
    assert quantile_of(0.5, [(1.0, 2.0), (2.0, 4.0), (math.inf, 4.0)]) == 1.0
    assert quantile_of(0.75, [(1.0, 2.0), (2.0, 4.0), (math.inf, 4.0)]) == 1.5


@pytest.fixture
def site() -> Iterator[tuple[str, list[bytes]]]:
    """An HTTP server that gives the first of some bodies."""
    bodies: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(bodies[0])

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}", bodies
        server.shutdown()
        thread.join()


def test_what_answers_must_be_a_nearlight_server(site: tuple[str, list[bytes]]) -> None:
    address, bodies = site
    bodies.append(TEXT.encode())
    for form in (address, f"http://{address}", f"http://{address}/metrics", f"http://{address}/"):
        assert read(form).total("plain") == 4
    bodies[0] = b"go_goroutines 3\n"
    with pytest.raises(NotReady, match="no Nearlight server"):
        read(address)
    bodies[0] = b"nearlight_x{} abc\n"
    with pytest.raises(NotReady, match="no metrics at"):
        read(address)
    with pytest.raises(NotReady, match=r"no metrics at http://127\.0\.0\.1:1/metrics"):
        read("127.0.0.1:1")
