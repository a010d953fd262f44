"""Zero-shot classification and cross-modal retrieval of two towers, whatever runs them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import open_clip
import torch

from nearlight.bundle.manifest import ImagePreprocess
from nearlight.bundle.prompts import prototypes
from nearlight.bundle.text import Tokenizer
from nearlight.training.config import ModelSection
from nearlight.training.errors import DataError
from nearlight.training.pixels import PixelReader
from nearlight.training.sources import Source
from nearlight.training.towers import embed_pixels, embed_texts

Vectors = npt.NDArray[np.float32]


class Embedder(Protocol):
    """Two towers seen from outside: a torch module or a bundle on ONNX Runtime."""

    def images(self, source: Source) -> Vectors:
        """Returns unit vectors (N, D) of all images of a source."""

    def texts(self, texts: Sequence[str]) -> Vectors:
        """Returns unit vectors (N, D)."""


@dataclass(frozen=True, slots=True)
class TorchEmbedder:
    """The towers of a run."""

    model: open_clip.CLIP
    section: ModelSection
    tokenizer: Tokenizer
    decode_threads: int = 2

    def images(self, source: Source) -> Vectors:
        """Returns unit vectors (N, D) of all images of a source, preprocessed as the server does."""
        reader = PixelReader(
            source, ImagePreprocess(size_px=self.section.image_px), self.decode_threads, keep=False
        )
        parts = []
        for start in range(0, len(source), 256):
            pixels = reader.read(np.arange(start, min(start + 256, len(source))))
            parts.append(embed_pixels(self.model, pixels, self.section).cpu().numpy())
        reader.close()
        return np.concatenate(parts)

    def texts(self, texts: Sequence[str]) -> Vectors:
        """Returns unit vectors (N, D)."""
        parts = [
            embed_texts(self.model, self.tokenizer.encode(texts[start : start + 256], trim=True))
            .cpu()
            .numpy()
            for start in range(0, len(texts), 256)
        ]
        return np.concatenate(parts)


def zero_shot(embedder: Embedder, source: Source, templates: Sequence[str]) -> dict[str, float]:
    """Returns top-1 and top-5 accuracy in percent over the class names of the source itself.

    Each class is the normalised mean of the unit vectors of its name in every template (Radford et al.
    2021, section 3.1.4).

    Raises:
        DataError: the source has captions instead of class names, or fewer than two classes.
    """
    if source.label_names is None or len(source.classes) < 2:
        raise DataError(
            f"{source.name}: zero-shot needs a label_name for each image and at least two classes"
        )
    classes = sorted(source.classes)
    number = {name: i for i, name in enumerate(classes)}
    truth = np.array([number[name] for name in source.label_names])  # (N,)
    scores = embedder.images(source) @ prototypes(embedder.texts, classes, templates).T  # (N, L)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    hits = order == truth[:, None]
    return {
        "top1": 100 * float(hits[:, 0].mean()),
        "top5": 100 * float(hits.any(axis=1).mean()),
        "classes": float(len(classes)),
        "images": float(len(truth)),
    }


def retrieval(embedder: Embedder, source: Source, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Returns recall@k in percent, both ways, over all images and all captions of a source.

    text→image: the share of captions whose image is among the k nearest images. image→text: the share
    of images with at least one of their captions among the k nearest captions (the protocol of
    Karpathy and Fei-Fei 2015).

    Raises:
        DataError: the source has class names instead of captions.
    """
    if source.captions is None:
        raise DataError(f"{source.name}: retrieval needs captions for each image")
    texts = [text for said in source.captions for text in said]
    owner = np.array([i for i, said in enumerate(source.captions) for _ in said])  # (T,)
    scores = embedder.texts(texts) @ embedder.images(source).T  # (T, N)
    own = scores[np.arange(len(texts)), owner]  # (T,)
    rank = (scores > own[:, None]).sum(axis=1)  # (T,) images nearer than the right one
    best = np.full(len(source), -np.inf, np.float32)
    np.maximum.at(best, owner, own)  # (N,) the best own caption of each image
    back = (scores > best[None, :]).sum(axis=0)  # (N,) captions nearer than it
    values = {f"text_to_image_r{k}": 100 * float((rank < k).mean()) for k in ks}
    values |= {f"image_to_text_r{k}": 100 * float((back < k).mean()) for k in ks}
    return values | {"images": float(len(source)), "captions": float(len(texts))}


def evaluate_sources(
    model: open_clip.CLIP,
    section: ModelSection,
    tokenizer: Tokenizer,
    sources: Sequence[Source],
    templates: Sequence[str],
) -> dict[str, dict[str, float]]:
    """Returns the metrics that suit each source: retrieval where it has captions, else zero-shot."""
    embedder = TorchEmbedder(model, section, tokenizer)
    with torch.no_grad():
        return {
            source.name: retrieval(embedder, source)
            if source.captions is not None
            else zero_shot(embedder, source, templates)
            for source in sources
        }
