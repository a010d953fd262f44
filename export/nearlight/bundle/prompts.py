"""Zero-shot labels: prompts, their prototypes, and how a cosine becomes a probability."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from nearlight.bundle.manifest import Scoring

Floats = npt.NDArray[np.float32]
EmbedTexts = Callable[[Sequence[str]], Floats]

# Few and different: size, quality and medium vary, so that their mean keeps only what the label means.
DEFAULT_TEMPLATES = (
    "a photo of a {}.",
    "a blurry photo of the {}.",
    "a photo of one large {}.",
    "a photo of a tiny {}.",
    "a drawing of a {}.",
    "a {} in a computer game.",
    "a toy {}.",
)


def prompts(labels: Sequence[str], templates: Sequence[str] = DEFAULT_TEMPLATES) -> list[str]:
    """Every template filled with every label, label by label: L * T texts.

    Raises:
        ValueError: No labels, no templates, or a template without `{}`.
    """
    if not labels:
        raise ValueError("labels is empty; give at least 1")
    if not templates:
        raise ValueError("templates is empty; give at least 1, such as 'a photo of a {}.'")
    for index, template in enumerate(templates):
        if "{}" not in template:
            raise ValueError(f"templates[{index}] is {template!r}; it must contain {{}} where the label goes")
    # Not str.format: a label or a template may hold other braces.
    return [template.replace("{}", label) for label in labels for template in templates]


def prototypes(
    embed_texts: EmbedTexts, labels: Sequence[str], templates: Sequence[str] = DEFAULT_TEMPLATES
) -> Floats:
    """One unit vector per label: the mean of its prompts' vectors, scaled back to unit length.

    As in open_clip's `build_zero_shot_classifier`.

    Args:
        embed_texts: N texts to unit vectors (N, D); called once with all L * T prompts.
        labels: L names.
        templates: T texts with `{}`.

    Returns:
        float32, (L, D).
    """
    vectors = np.asarray(embed_texts(prompts(labels, templates)), dtype=np.float64)  # (L * T, D)
    means = vectors.reshape(len(labels), len(templates), -1).mean(axis=1)  # (L, D)
    lengths = np.linalg.norm(means, axis=1, keepdims=True)  # (L, 1)
    return np.asarray(means / np.maximum(lengths, 1e-12), dtype=np.float32)


def scores(vectors: Floats, label_prototypes: Floats) -> Floats:
    """Cosines of unit vectors (N, D) with prototypes (L, D): float32, (N, L), -1 to 1."""
    return np.asarray(vectors @ label_prototypes.T, dtype=np.float32)


def probabilities(cosines: Floats, scoring: Scoring) -> Floats:
    """Probabilities of cosines (N, L): over the labels of a row (softmax) or each for itself (sigmoid).

    Returns:
        float32, (N, L), 0 to 1; with `softmax` every row adds up to 1.
    """
    logits = scoring.logit_scale * cosines.astype(np.float64) + scoring.logit_bias  # (N, L)
    if scoring.kind == "sigmoid":
        # exp of a number that is never positive cannot overflow
        small = np.exp(-np.abs(logits))
        return (np.where(logits >= 0, 1.0, small) / (1.0 + small)).astype(np.float32)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)
