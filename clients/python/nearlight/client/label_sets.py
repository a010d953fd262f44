"""Label sets: labels, templates and calibration that a server keeps under a name; plans of their calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nearlight.client import convert
from nearlight.client.methods import (
    DELETE_LABEL_SET,
    GET_LABEL_SET,
    LIST_LABEL_SETS,
    PUT_LABEL_SET,
    PUT_NEW_LABEL_SET,
)
from nearlight.client.plan import Plan, ask
from nearlight.v1 import embedding_pb2


@dataclass(frozen=True, slots=True)
class Calibration:
    """How logits become honest probabilities: those of logit / temperature + bias.

    Attributes:
        temperature: > 0; 1: as trained.
        bias: of sigmoid models; 0: as trained.
        ece_before: expected calibration error as trained, 0 to 1, on the images held out of the fit.
        ece_after: the same with this calibration.
        images: fitted on.
        held_out_images: measured on.
    """

    temperature: float
    bias: float = 0.0
    ece_before: float = 0.0
    ece_after: float = 0.0
    images: int = 0
    held_out_images: int = 0


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Labels that a server keeps under a name.

    Attributes:
        name: 1 to 128 of A-Z a-z 0-9 . _ -.
        labels: names, or names with the words that stand for them, as in every set that a server returns.
        templates: each holds "{}" once; none: the model's own.
        model: the one it is meant for; "": the server's default.
        min_probability: an image whose best label is less likely abstains.
        calibration: None: as trained.
        space_id: space of the calibration; "" without one.
        updated_unix_ms: set by the server.
    """

    name: str
    labels: Sequence[str] | Mapping[str, Sequence[str]]
    templates: Sequence[str] = ()
    model: str = ""
    min_probability: float = 0.0
    calibration: Calibration | None = None
    space_id: str = ""
    updated_unix_ms: int = 0


def put_label_set(wanted: LabelSet, only_if_absent: bool) -> Plan[LabelSet]:
    """Stores a set, in place of the one of its name; returns it as stored."""
    request = embedding_pb2.PutLabelSetRequest(label_set=to_wire(wanted), only_if_absent=only_if_absent)
    method = PUT_NEW_LABEL_SET if only_if_absent else PUT_LABEL_SET
    return from_wire((yield from ask(method(request))))


def label_set(name: str) -> Plan[LabelSet]:
    """Gets one set by name."""
    request = embedding_pb2.GetLabelSetRequest(name=convert.text_for_wire(name))
    return from_wire((yield from ask(GET_LABEL_SET(request))))


def label_sets() -> Plan[list[LabelSet]]:
    """Lists the sets, over all pages."""
    found: list[LabelSet] = []
    token = ""
    while True:
        page = yield from ask(LIST_LABEL_SETS(embedding_pb2.ListLabelSetsRequest(page_token=token)))
        found += map(from_wire, page.label_sets)
        token = page.next_page_token
        if not token:
            return found


def delete_label_set(name: str) -> Plan[None]:
    """Deletes a set."""
    yield from ask(DELETE_LABEL_SET(embedding_pb2.DeleteLabelSetRequest(name=convert.text_for_wire(name))))


def to_wire(wanted: LabelSet) -> embedding_pb2.LabelSet:
    """Returns the message of a set."""
    message = embedding_pb2.LabelSet(
        name=convert.text_for_wire(wanted.name),
        labels=convert.labels_for_wire(wanted.labels, wanted.templates),
        model=convert.text_for_wire(wanted.model),
        min_probability=wanted.min_probability,
        space_id=convert.text_for_wire(wanted.space_id),
    )
    if wanted.calibration is not None:
        one = wanted.calibration
        message.calibration.CopyFrom(
            embedding_pb2.Calibration(
                temperature=one.temperature,
                bias=one.bias,
                ece_before=one.ece_before,
                ece_after=one.ece_after,
                images=one.images,
                held_out_images=one.held_out_images,
            )
        )
    return message


def from_wire(message: embedding_pb2.LabelSet) -> LabelSet:
    """Returns the set of a message."""
    one = message.calibration
    calibration = Calibration(
        one.temperature, one.bias, one.ece_before, one.ece_after, one.images, one.held_out_images
    )
    return LabelSet(
        name=message.name,
        labels={label.name: tuple(label.words) for label in message.labels.labels},
        templates=tuple(message.labels.templates),
        model=message.model,
        min_probability=message.min_probability,
        calibration=calibration if message.HasField("calibration") else None,
        space_id=message.space_id,
        updated_unix_ms=message.updated_unix_ms,
    )
