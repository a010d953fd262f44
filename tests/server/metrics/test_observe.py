from prometheus_client.metrics import MetricWrapperBase

from nearlight import store
from nearlight.server import errors
from nearlight.server.metrics import figures, observe


def test_reasons_are_words() -> None:
    assert observe.reason_of(errors.OverCallerLimit("x", 1.0)) == "over_caller_limit"
    assert observe.reason_of(errors.TooLate("x")) == "too_late"
    assert observe.reason_of(store.CollectionNotFound("x")) == "collection_not_found"


def test_a_reply_is_written_as_before_and_timed() -> None:
    write = observe.timed_reply(lambda reply: reply.encode())
    assert write is not None
    assert write("x") == b"x"
    assert observe.timed_reply(None) is None


def test_every_figure_says_what_it_is_and_is_exported_once() -> None:
    names = [next(iter(figure.collect())).name for figure in figures.ALL]
    assert len(set(names)) == len(names)
    assert all(name.startswith("nearlight_") for name in names)
    defined = {value for value in vars(figures).values() if isinstance(value, MetricWrapperBase)}
    assert defined == set(figures.ALL)
