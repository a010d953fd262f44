"""A training run of ours as a subject of export."""

import json
import re
from pathlib import Path

from pydantic import JsonValue
from torch import nn

from nearlight.bundle.manifest import ImagePreprocess, ImageTower
from nearlight.export.errors import SourceError
from nearlight.export.graphs import may_trim
from nearlight.export.subject import Subject, scoring_of
from nearlight.export.torch_encoders import ImageOnly, TorchEncoders
from nearlight.training.checkpoint import LoadedEncoder, is_encoder_run, load_encoder, load_model
from nearlight.training.config import UNNAMED, RunConfig
from nearlight.training.errors import TrainingError
from nearlight.training.vocabulary import text_tower


def open_run(run: Path, head: bool = False) -> Subject:
    """The towers or the image encoder of a run folder, with its configuration and its saved evaluations.

    Args:
        run: The folder.
        head: Keep the projection head behind the encoder.

    Raises:
        SourceError: The folder is no run, its checkpoint does not load, or it has not the head asked for.
    """
    try:
        if is_encoder_run(run):
            return _encoder(run, load_encoder(run), head)
        if head:
            raise SourceError(f"--head: the towers of {run} have no projection head of their own")
        loaded = load_model(run)
    except TrainingError as error:
        raise SourceError(str(error)) from error
    section = loaded.config.model
    model = loaded.model.cpu().float()
    image = ImageTower(
        preprocess=ImagePreprocess(size_px=section.image_px), mean=section.mean, std=section.std
    )
    text = text_tower(section, trimmable=may_trim(model))
    return Subject(
        encoders=TorchEncoders(model, image, text),
        name=_plain_name(run, loaded.config),
        image=image,
        text=text,
        tokenizer_json=loaded.tokenizer_json,
        scoring=scoring_of(model),
        training={"kind": "nearlight run", "steps": loaded.step, "config": _portable(loaded.config)},
        metrics=_metrics(run),
        data=loaded.config.data.val,
        made_with=run.resolve().name,
    )


def _encoder(run: Path, loaded: LoadedEncoder, head: bool) -> Subject:
    """The encoder of a method without a text tower.

    Its projection head was for the loss, forgets what the loss did not need, and stays behind unless asked.
    """
    section, encoder = loaded.section, loaded.encoder
    training: dict[str, JsonValue] = {
        "kind": "nearlight run",
        "steps": loaded.step,
        "config": _portable(loaded.config),
    }
    if head:
        if loaded.head is None or loaded.config.method == "ce":
            has = "its head gives logits of classes" if loaded.head else "it has none"
            raise SourceError(f"--head: {run} was trained with {loaded.config.method}: {has}")
        encoder = nn.Sequential(encoder, loaded.head)
        training["head"] = True
    image = ImageTower(
        preprocess=ImagePreprocess(size_px=section.image_px), mean=section.mean, std=section.std
    )
    return Subject(
        encoders=TorchEncoders(ImageOnly(encoder.cpu().float()), image, None),
        name=_plain_name(run, loaded.config),
        image=image,
        text=None,
        tokenizer_json=None,
        scoring=None,
        training=training,
        metrics=_metrics(run),
        data=loaded.config.data.val or loaded.config.data.train,
        made_with=run.resolve().name,
    )


def _plain_name(run: Path, config: RunConfig) -> str:
    named = config.name if config.name != UNNAMED else run.resolve().name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", named).strip("-._") or UNNAMED


def _portable(config: RunConfig) -> JsonValue:
    """The configuration without the folders of the machine it ran on."""
    document = config.model_dump(mode="json")
    data = document["data"]
    for key in ("train", "val"):
        data[key] = [Path(source).name for source in data[key]]
    data["templates"] = Path(data["templates"]).name if data["templates"] else None
    plain: JsonValue = document
    return plain


def _metrics(run: Path) -> dict[str, JsonValue]:
    """`evaluation-TASK.json` as {TASK: {source: figures}}, and the last validation of the training itself."""
    found: dict[str, JsonValue] = {}
    for file in sorted(run.glob("evaluation-*.json")):
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
            found[document["task"]] = document["results"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SourceError(f"{file} is not what `nearlight evaluate` writes: {error!r}") from error
    return found or _last_validation(run / "metrics.jsonl")


def _last_validation(journal: Path) -> dict[str, JsonValue]:
    last: dict[str, JsonValue] = {}
    if journal.is_file():
        for line in journal.read_text(encoding="utf-8").splitlines():
            values = json.loads(line)
            named = {key: value for key, value in values.items() if "/" in key}
            last = {"validation": named} if named else last
    return last
