"""Prototypes and probabilities against loops."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from nearlight.bundle.manifest import Scoring
from nearlight.bundle.prompts import DEFAULT_TEMPLATES, Floats, probabilities, prompts, prototypes, scores


def embed(texts: Sequence[str]) -> Floats:
    """A unit vector per text that depends on every character."""
    rows = np.array([[math.sin(sum(map(ord, text)) * (d + 1) * 0.37) for d in range(6)] for text in texts])
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def prototypes_by_hand(labels: list[str], templates: list[str]) -> list[list[float]]:
    found = []
    for label in labels:
        vectors = [embed([template.replace("{}", label)])[0].tolist() for template in templates]
        mean = [sum(column) / len(vectors) for column in zip(*vectors, strict=True)]
        length = math.sqrt(sum(value * value for value in mean))
        found.append([value / length for value in mean])
    return found


def test_prototypes_are_unit_means() -> None:
    labels, templates = ["cat", "dog", "{odd}"], ["a {}.", "the {} of {}", "{}"]
    found = prototypes(embed, labels, templates)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, prototypes_by_hand(labels, templates), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_all_prompts_are_embedded_in_one_call() -> None:
    calls = []

    def counted(texts: Sequence[str]) -> Floats:
        calls.append(list(texts))
        return embed(texts)

    prototypes(counted, ["cat", "dog"], ["a {}", "two {}"])
    assert calls == [["a cat", "two cat", "a dog", "two dog"]]


def test_vectors_that_cancel_out_do_not_divide_by_zero() -> None:
    found = prototypes(lambda texts: np.array([[1, 0], [-1, 0]], np.float32), ["x"], ["a {}", "b {}"])
    assert np.isfinite(found).all()


def test_default_templates() -> None:
    assert len(DEFAULT_TEMPLATES) == len(set(DEFAULT_TEMPLATES)) == 7
    assert prompts(["fox"])[0] == "a photo of a fox."


@pytest.mark.parametrize(
    ("labels", "templates", "message"),
    [
        ([], ["{}"], "labels is empty"),
        (["x"], [], "templates is empty"),
        (["x"], ["a {}", "no place"], r"templates\[1\] is 'no place'; it must contain \{\}"),
        (["x"], ["a {c}"], r"templates\[0\]"),
    ],
)
def test_wrong_labels_and_templates(labels: list[str], templates: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prompts(labels, templates)


@pytest.mark.parametrize(("scale", "bias"), [(1.0, 0.0), (100.0, 0.0), (117.3, -12.9), (1e6, 5.0)])
@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_probabilities(kind: str, scale: float, bias: float) -> None:
    cosines = scores(embed(["a", "b", "c"]), embed(["v", "w", "x", "y", "z"]))  # (3, 5)
    assert cosines.shape == (3, 5)
    found = probabilities(
        cosines, Scoring.model_validate({"kind": kind, "logit_scale": scale, "logit_bias": bias})
    )
    assert found.dtype == np.float32
    for row, found_row in zip(cosines.tolist(), found.tolist(), strict=True):
        logits = [scale * cosine + bias for cosine in row]
        if kind == "softmax":
            powers = [math.exp(logit - max(logits)) for logit in logits]
            wanted = [power / sum(powers) for power in powers]
        else:
            wanted = [1 / (1 + math.exp(-max(logit, -700))) for logit in logits]
        np.testing.assert_allclose(found_row, wanted, atol=1e-6)


def test_scores_are_cosines() -> None:
    images, labels = embed(["a", "b"]), embed(["c", "d", "e"])
    by_hand = [
        [sum(x * y for x, y in zip(i, t, strict=True)) for t in labels.tolist()] for i in images.tolist()
    ]
    np.testing.assert_allclose(scores(images, labels), by_hand, atol=1e-6)
