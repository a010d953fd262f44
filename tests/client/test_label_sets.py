"""Label sets through both clients."""

from dataclasses import replace
from typing import Any

import grpc
import pytest

from nearlight.client import AlreadyExists, Calibration, InvalidInput, LabelSet, NotFound, NotReady

PETS = LabelSet(
    "pets",
    labels={"cat": ("cat", "kitten"), "dog": ()},
    templates=("a {}",),
    model="m",
    min_probability=0.5,
    calibration=Calibration(0.5, -1.0, 0.25, 0.125, 80, 20),
    space_id="s",
)


def test_what_is_put_comes_back(client: Any) -> None:
    stored = client.put_label_set(PETS)
    assert replace(stored, updated_unix_ms=0) == PETS
    assert client.label_set("pets") == stored
    assert client.put_label_set(stored) == stored
    with pytest.raises(AlreadyExists):
        client.put_label_set(PETS, only_if_absent=True)
    client.delete_label_set("pets")
    for call in (client.label_set, client.delete_label_set):
        with pytest.raises(NotFound):
            call("pets")


def test_a_list_of_names_is_enough(client: Any) -> None:
    stored = client.put_label_set(LabelSet("n", ["a", "b"]))
    assert (stored.labels, stored.calibration, stored.space_id) == ({"a": (), "b": ()}, None, "")


def test_all_pages_are_listed(client: Any) -> None:
    for name in "cab":
        client.put_label_set(replace(PETS, name=name))
    assert [one.name for one in client.label_sets()] == ["a", "b", "c"]


def test_a_put_is_sent_again_but_one_that_must_be_the_first_is_not(client: Any, fake: Any) -> None:
    fake.script.fail("PutLabelSet", grpc.StatusCode.UNAVAILABLE, "connection reset by peer")
    client.put_label_set(PETS)
    fake.script.fail("PutLabelSet", grpc.StatusCode.UNAVAILABLE, "connection reset by peer")
    with pytest.raises(NotReady):
        client.put_label_set(replace(PETS, name="new"), only_if_absent=True)


def test_what_cannot_be_sent_is_refused_here(client: Any, fake: Any) -> None:
    for wrong in (replace(PETS, name="\ud800"), LabelSet("x", "cat")):
        with pytest.raises(InvalidInput):
            client.put_label_set(wrong)
    assert not fake.script.seen


def test_classify_says_which_images_abstained(client: Any) -> None:
    client.put_label_set(PETS)
    for least, abstained in ((0.9, True), (0.1, False)):
        (result,) = client.classify([b"image"], label_set="pets", min_probability=least)
        assert (result.abstained, len(result.labels), result.calibrated) == (abstained, 1, True)
    client.put_label_set(replace(PETS, calibration=None))
    assert not client.classify([b"image"], label_set="pets")[0].calibrated
