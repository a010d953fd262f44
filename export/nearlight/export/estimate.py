"""What an export would make and how long it would take, without making it."""

import math
import time
from dataclasses import dataclass

import numpy as np

from nearlight.bundle.text import Tokenizer
from nearlight.export.samples import MAX_IMAGES, MAX_TEXTS
from nearlight.export.subject import Subject

_BYTES_PER_WEIGHT = {"fp32": 4.0, "fp16": 2.0, "int8": 1.1}
_TRIED_INPUTS = 2
_TRACING_SECONDS = 20.0
_RUNS = {"fp32": 2.2, "fp16": 2.2, "int8": 6.0}  # the reference, the graph, and for int8 its candidates


@dataclass(frozen=True, slots=True)
class Estimate:
    """What `--dry-run` says: bytes of the weights, seconds for the most inputs that parity is proven on."""

    name: str
    dim: int
    image_px: int
    context_length: int | None
    trimmable: bool
    image_bytes: int
    text_bytes: int
    seconds: int


def estimate(subject: Subject, precision: str) -> Estimate:
    """Try a few inputs and count the weights."""
    side = subject.image.preprocess.size_px
    pixels = np.zeros((_TRIED_INPUTS, side, side, 3), np.uint8)
    start = time.perf_counter()
    dim = int(subject.encoders.embed_images(pixels).shape[1])
    work = (time.perf_counter() - start) / _TRIED_INPUTS * MAX_IMAGES
    if subject.text is not None and subject.tokenizer_json is not None:
        tokens = Tokenizer.load(subject.tokenizer_json, subject.text).encode(["a dog", "two cats"])
        start = time.perf_counter()
        subject.encoders.embed_texts(tokens)
        work += (time.perf_counter() - start) / _TRIED_INPUTS * MAX_TEXTS
    image_weights, text_weights = subject.encoders.weights()
    share = _BYTES_PER_WEIGHT[precision]
    return Estimate(
        name=subject.name,
        dim=dim,
        image_px=side,
        context_length=subject.text.context_length if subject.text else None,
        trimmable=bool(subject.text and subject.text.trimmable),
        image_bytes=int(image_weights * share),
        text_bytes=int(text_weights * share),
        seconds=math.ceil(_TRACING_SECONDS + work * _RUNS[precision]),
    )
