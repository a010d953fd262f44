"""Label sets: from the wire and back."""

from collections.abc import Sequence

from nearlight.server.classifier import LabelPrompts
from nearlight.server.config import LimitsConfig
from nearlight.server.convert.values import check_count
from nearlight.server.errors import InvalidInput, NotPossible, WrongSpace
from nearlight.server.models import LoadedModel
from nearlight.store import Calibration, Label, LabelSet
from nearlight.v1 import embedding_pb2

MAX_LABEL_BYTES = 512
BLANK = "{}"


def check_labels(labels: embedding_pb2.Labels, limits: LimitsConfig, where: str) -> None:
    """Check labels and templates.

    Args:
        labels: as they came.
        limits: of the server.
        where: path of the message, for the errors.

    Raises:
        InvalidInput: a list too long or empty, a bad name, word or template.
    """
    check_count(len(labels.labels), limits.max_labels, f"{where}.labels")
    if len(labels.templates) > limits.max_templates:
        n = len(labels.templates)
        reason = f"{where}.templates holds {n} items; the limit is {limits.max_templates}"
        raise InvalidInput(reason, field=f"{where}.templates")
    for i, template in enumerate(labels.templates):
        if template.count(BLANK) != 1:
            field = f"{where}.templates[{i}]"
            raise InvalidInput(
                f'{field} is {template[:200]!r}; it must hold "{{}}" exactly once', field=field
            )
    seen: dict[str, int] = {}
    for i, label in enumerate(labels.labels):
        _check_label(label, i, seen, where)


def _check_label(label: embedding_pb2.Label, i: int, seen: dict[str, int], where: str) -> None:
    name, field = label.name, f"{where}.labels[{i}].name"
    n_bytes = len(name.encode())
    if not name.strip() or n_bytes > MAX_LABEL_BYTES:
        reason = f"{field} has {n_bytes} bytes; the limit is 1 to {MAX_LABEL_BYTES}, not blank"
        raise InvalidInput(reason, field=field)
    if name in seen:
        reason = f"{field} is {name!r}, as {where}.labels[{seen[name]}] is; names are unique"
        raise InvalidInput(reason, field=field)
    for j, word in enumerate(label.words):
        if not word.strip():
            field = f"{where}.labels[{i}].words[{j}]"
            raise InvalidInput(f"{field} is blank; it must hold a word", field=field)
    seen[name] = i


def prompts_of_message(labels: embedding_pb2.Labels, default_templates: Sequence[str]) -> LabelPrompts:
    """The prompts of labels that came with a request."""
    return LabelPrompts(
        names=tuple(label.name for label in labels.labels),
        words=tuple(tuple(label.words) or (label.name,) for label in labels.labels),
        templates=tuple(labels.templates) or tuple(default_templates),
    )


def prompts_of_set(stored: LabelSet, default_templates: Sequence[str]) -> LabelPrompts:
    """The prompts of a stored set."""
    return LabelPrompts(
        names=tuple(label.name for label in stored.labels),
        words=tuple(label.words or (label.name,) for label in stored.labels),
        templates=stored.templates or tuple(default_templates),
    )


def label_set_of(message: embedding_pb2.LabelSet, model: LoadedModel, limits: LimitsConfig) -> LabelSet:
    """A set to store, checked but for what the store itself checks.

    Args:
        message: as it came.
        model: the one it names, or the default.
        limits: of the server.

    Raises:
        InvalidInput: bad labels or templates, or a bias for a softmax model.
        NotPossible: the model cannot compare images with labels.
        WrongSpace: it gives another space than the model's.
    """
    check_labels(message.labels, limits, "label_set.labels")
    if model.manifest.scoring is None or "text" not in model.towers:
        raise NotPossible(f"model {model.name!r} has no text tower: it cannot compare images with labels")
    if message.space_id and message.space_id != model.space_id:
        raise WrongSpace(
            f"label_set.space_id is {message.space_id[:80]!r}; model {model.name!r} is of {model.space_id!r}",
            field="label_set.space_id",
        )
    calibration = _calibration_of(message.calibration) if message.HasField("calibration") else None
    if calibration and calibration.bias and model.manifest.scoring.kind != "sigmoid":
        field = "label_set.calibration.bias"
        reason = f"{field} is {calibration.bias}; it must be 0: model {model.name!r} has softmax scoring"
        raise InvalidInput(reason, field=field)
    return LabelSet(
        name=message.name,
        space_id=model.space_id,
        dim=model.manifest.dim,
        labels=tuple(Label(label.name, tuple(label.words)) for label in message.labels.labels),
        templates=tuple(message.labels.templates),
        model=message.model,
        min_probability=message.min_probability,
        calibration=calibration,
    )


def label_set_message(stored: LabelSet) -> embedding_pb2.LabelSet:
    """A stored set on the wire."""
    labels = [embedding_pb2.Label(name=label.name, words=label.words) for label in stored.labels]
    message = embedding_pb2.LabelSet(
        name=stored.name,
        labels=embedding_pb2.Labels(labels=labels, templates=stored.templates),
        model=stored.model,
        min_probability=stored.min_probability,
        updated_unix_ms=stored.updated_unix_ms,
    )
    if stored.calibration:
        one = stored.calibration
        message.space_id = stored.space_id
        message.calibration.temperature, message.calibration.bias = one.temperature, one.bias
        message.calibration.ece_before, message.calibration.ece_after = one.ece_before, one.ece_after
        message.calibration.images, message.calibration.held_out_images = one.images, one.held_out_images
    return message


def _calibration_of(message: embedding_pb2.Calibration) -> Calibration:
    return Calibration(
        temperature=message.temperature,
        bias=message.bias,
        ece_before=message.ece_before,
        ece_after=message.ece_after,
        images=message.images,
        held_out_images=message.held_out_images,
    )
