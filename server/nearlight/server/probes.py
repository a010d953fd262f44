"""Generated inputs on which engines are compared: nobody's images, the same everywhere."""

from collections.abc import Sequence

import numpy as np

from nearlight.bundle.folder import Bundle
from nearlight.bundle.golden import PROBE_TEXTS, probe_pixels
from nearlight.bundle.prompts import prompts
from nearlight.server.call import Row
from nearlight.server.runtimes.encoder import Graph
from nearlight.server.runtimes.onnx_cpu import OnnxEncoder
from nearlight.server.runtimes.parity import Probes

IMAGES = 8
# Other images than the golden ones: an engine is judged on what it was not checked on before.
SEED = 7
# The length at which texts are timed: most captions and prompts are no longer.
TYPICAL_LENGTH = 16
_NOUNS = ("horse", "bridge at night", "bowl of red apples", "crowd", "sailing boat")


def image_probes(graph: Graph, threads: int) -> Probes:
    """Generated images with the vectors that ONNX Runtime gives them in float32."""
    (shape,) = graph.row_shapes
    pixels = probe_pixels(shape[0], IMAGES, SEED)  # (N, S, S, 3)
    reference = OnnxEncoder(graph.path, dim=graph.dim, threads=threads)
    return Probes(rows=pixels, vectors=reference.encode(pixels), timed=pixels)


def text_probes(bundle: Bundle, graph: Graph, threads: int) -> Probes:
    """Texts of all lengths with the vectors that ONNX Runtime gives them in float32 at the full length."""
    tokenizer = bundle.tokenizer()
    texts = [*PROBE_TEXTS, *prompts(_NOUNS)]
    tokens = tokenizer.encode(texts)  # (N, L)
    widths = sorted(shape[0] for shape in graph.row_shapes)
    used = [next(width for width in widths if width >= length) for length in tokenizer.lengths(tokens)]
    reference = OnnxEncoder(graph.path, dim=graph.dim, threads=threads)
    return Probes(
        rows=tokens,
        vectors=reference.encode(tokens),
        timed=timed_texts(tokens, used, widths),
        used=tuple(used) if tokenizer.tower.trimmable else None,
    )


def timed_texts(tokens: Row, used: Sequence[int], widths: Sequence[int]) -> Row:
    """The texts that fit a typical length, cut to it: (N, l); all of them where nothing may be cut."""
    width = next((width for width in widths if width >= TYPICAL_LENGTH), widths[-1])
    return np.ascontiguousarray(tokens[np.array(used) <= width, :width])
