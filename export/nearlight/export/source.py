"""What `nearlight export SOURCE` may name, told apart by its first word."""

import json
from dataclasses import replace
from pathlib import Path

from pydantic import JsonValue

from nearlight.bundle.folder import MANIFEST
from nearlight.export.choice import Choice
from nearlight.export.errors import SourceError
from nearlight.export.hub import Fetched, fetched_repository, is_remote
from nearlight.export.onnx_source import open_onnx
from nearlight.export.open_clip_source import open_open_clip
from nearlight.export.open_clip_weights import CONFIG_FILE, RANDOM
from nearlight.export.run_source import open_run
from nearlight.export.subject import Subject
from nearlight.export.timm_source import PRETRAINED, open_timm


def open_subject(source: str, choice: Choice) -> Subject:
    """The model that a SOURCE names: a run's folder, or `KIND:REST` of a public one.

    Raises:
        SourceError: It is unknown, missing, damaged or of a kind that is not supported.
    """
    kind, _, rest = source.partition(":")
    name, _, weights = rest.partition(":")
    if is_remote(source):
        with fetched_repository(source, trust_pickle=choice.trust_pickle) as fetched:
            return _from_hub(fetched, choice)
    match kind if rest or kind != source else "":
        case "open_clip":
            return open_open_clip(name, _named(source, name, weights), choice)
        case "timm":
            return open_timm(name, weights or PRETRAINED, choice)
        case "onnx":
            return open_onnx(Path(rest), choice)
        case _:
            return open_run(Path(source), choice.head)


def _from_hub(fetched: Fetched, choice: Choice) -> Subject:
    """A repository in the layout of open_clip, timm, or one of the ONNX folders."""
    folder = fetched.folder
    if (folder / MANIFEST).is_file():
        raise SourceError(f"hf:{fetched.repo} is a bundle already: nearlight bundle pull hf:{fetched.repo}")
    if (folder / CONFIG_FILE).is_file():
        subject = open_open_clip(folder.name, str(folder), choice)
    elif _timm_name(folder) is not None:
        subject = open_timm(str(_timm_name(folder)), str(folder), choice)
    elif any(folder.rglob("*.onnx")):
        subject = open_onnx(folder, choice)
    else:
        raise SourceError(
            f"hf:{fetched.repo} is of no known layout: it holds no {CONFIG_FILE}, no config.json of timm and"
            " no ONNX graphs that Nearlight reads (weights of transformers are not supported)"
        )
    pinned: dict[str, JsonValue] = {"repo": fetched.repo, "commit": fetched.commit}
    training: dict[str, JsonValue] = {**subject.training, "hf": pinned}
    return replace(subject, training=training, made_with=f"hf:{fetched.repo}@{fetched.commit}")


def _timm_name(folder: Path) -> str | None:
    try:
        document = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return str(document["architecture"]) if "pretrained_cfg" in document else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _named(source: str, model: str, weights: str) -> str:
    if not weights:
        stem = f"{source.partition(':')[0]}:{model or 'ARCH'}"
        raise SourceError(f"{source!r} names no weights; write {stem}:FILE, {stem}:TAG or {stem}:{RANDOM}")
    return weights
