"""Which words go with an image at a step: one of its captions, or its class name in a template."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nearlight.bundle.prompts import DEFAULT_TEMPLATES
from nearlight.training.errors import DataError
from nearlight.training.sources import Source


def load_templates(spec: str | None) -> tuple[str, ...]:
    """Returns prompt templates, each with one `{}`.

    Args:
        spec: None for the built-in list, or `FILE[#NAME]`: a JSON list of templates, or a JSON object
            whose member NAME holds a list or {"templates": [...]}.

    Raises:
        DataError: an unreadable file, an unknown NAME, a template without `{}`.
    """
    if spec is None:
        return tuple(DEFAULT_TEMPLATES)
    file, _, name = spec.partition("#")
    try:
        tree = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the templates {file}: {error}") from None
    if isinstance(tree, dict):
        if name not in tree and "templates" not in tree:
            raise DataError(f"{file}: which one? write {file}#NAME with NAME one of {', '.join(tree)}")
        tree = tree.get(name, tree)
        tree = tree["templates"] if isinstance(tree, dict) else tree
    wrong = [t for t in tree if not isinstance(t, str) or t.count("{}") != 1]
    if wrong or not tree:
        raise DataError(
            f"{file}: each template must hold {{}} once; {wrong[:1] or 'the list is empty'} does not"
        )
    return tuple(tree)


@dataclass(frozen=True, slots=True)
class Said:
    """The words of a batch: the distinct texts, and which text and which group each sample has."""

    texts: list[str]
    index: np.ndarray  # (B,) int64: sample → row of texts
    groups: np.ndarray  # (B,) int64: samples with equal numbers are positives of one another


def say(
    picks: Sequence[tuple[Source, np.ndarray]], templates: Sequence[str], rng: np.random.Generator
) -> Said:
    """Returns the words of one batch.

    A captioned sample says one of its captions, drawn at random, and is its own group. Samples with
    one class name, from whatever source, form one group and say the same sentence, so that the text
    tower works once for all of them.

    Args:
        picks: the sources of the batch with the row numbers taken of each, in batch order.
        templates: prompt templates with one `{}`.
        rng: the generator of this step.
    """
    texts: dict[str, int] = {}
    sentences: dict[str, str] = {}
    group_of: dict[object, int] = {}
    index, groups = [], []
    for source, rows in picks:
        for row in rows:
            if source.captions is not None:
                options = source.captions[row]
                sentence = options[int(rng.integers(len(options)))]
                key: object = (id(source), int(row))
            else:
                assert source.label_names is not None
                name = source.label_names[row]
                if name not in sentences:
                    sentences[name] = templates[int(rng.integers(len(templates)))].format(name)
                sentence, key = sentences[name], name
            index.append(texts.setdefault(sentence, len(texts)))
            groups.append(group_of.setdefault(key, len(group_of)))
    return Said(list(texts), np.array(index, dtype=np.int64), np.array(groups, dtype=np.int64))
