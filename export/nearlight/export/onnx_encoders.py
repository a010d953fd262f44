"""Foreign ONNX towers as encoders: the reference is their own graph, run as its makers run it."""

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import ModelProto

from nearlight.bundle.image import Pixels
from nearlight.bundle.manifest import ImageTower, TextTower
from nearlight.bundle.text import Tokens
from nearlight.export.errors import SourceError
from nearlight.export.onnx_file import open_session
from nearlight.export.onnx_graph import ForeignGraph
from nearlight.export.onnx_wrapper import wrap_image, wrap_text
from nearlight.export.subject import Vectors


class OnnxEncoders:
    """One or two foreign towers."""

    def __init__(
        self,
        image_graph: ForeignGraph,
        image: ImageTower,
        text_graph: ForeignGraph | None,
        text: TextTower | None,
    ) -> None:
        self._image_graph, self._image = image_graph, image
        self._text_graph, self._text = text_graph, text
        self._image_session = _session(image_graph)
        self._text_session = _session(text_graph) if text_graph else None

    def embed_images(self, pixels: Pixels) -> Vectors:
        """Unit vectors (B, D); channels are scaled before the graph, as its makers do it."""
        kind = _numpy_kind(self._image_graph)
        mean, std = np.array(self._image.mean, np.float32), np.array(self._image.std, np.float32)
        images = ((pixels.astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2)  # (B, 3, H, W)
        return _run(
            self._image_session, self._image_graph, {self._image_graph.main.name: images.astype(kind)}
        )

    def embed_texts(self, tokens: Tokens) -> Vectors:
        """Unit vectors (B, D)."""
        graph, tower = self._text_graph, self._text
        assert graph is not None
        assert tower is not None
        feeds = {graph.main.name: tokens.astype(_numpy_kind(graph))}
        if graph.mask is not None:
            feeds[graph.mask] = attention_mask(tokens, tower).astype(_numpy_kind(graph, graph.mask))
        return _run(self._text_session, graph, feeds)

    def weights(self) -> tuple[int, int]:
        """Numbers in the image tower and in the text tower."""
        return _numbers(self._image_graph), _numbers(self._text_graph) if self._text_graph else 0

    def digest(self) -> str:
        """A hash of both graphs, piece by piece: whole ones may be too large for protobuf."""
        seen = hashlib.sha256()
        for found in (self._image_graph, self._text_graph):
            if found is not None:
                graph = found.model.graph
                for part in (*graph.input, *graph.output, *graph.node, *graph.initializer):
                    seen.update(part.SerializeToString(deterministic=True))
        return seen.hexdigest()

    def image_onnx(self) -> ModelProto:
        """The image graph."""
        return wrap_image(self._image_graph, self._image, self.dim)

    def text_onnx(self) -> ModelProto:
        """The text graph."""
        assert self._text_graph is not None
        assert self._text is not None
        return wrap_text(self._text_graph, self._text, self.dim)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        side = self._image.preprocess.size_px
        return int(self.embed_images(np.zeros((1, side, side, 3), np.uint8)).shape[1])


def _numbers(graph: ForeignGraph) -> int:
    return sum(int(np.prod(weight.dims)) for weight in graph.model.graph.initializer)


def attention_mask(tokens: Tokens, tower: TextTower) -> Tokens:
    """1 for tokens, 0 for padding (B, L); an end token that also pads counts where it comes first."""
    pads = tokens == tower.pad_id
    kept = (np.cumsum(pads, axis=1) - pads) == 0 if tower.pad_id == tower.eot_id else ~pads
    mask: Tokens = kept.astype(np.int64)
    return mask


def _session(graph: ForeignGraph) -> onnxruntime.InferenceSession:
    try:
        return open_session(graph.model)
    except Exception as error:  # onnxruntime raises one class per status
        raise SourceError(f"{graph.file.name} does not load: {' '.join(str(error).split())[:300]}") from error


def _numpy_kind(graph: ForeignGraph, name: str | None = None) -> Any:
    value = next(v for v in graph.model.graph.input if v.name == (name or graph.main.name))
    return onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)


def _run(session: Any, graph: ForeignGraph, feeds: dict[str, npt.NDArray[Any]]) -> Vectors:
    rows = len(next(iter(feeds.values())))
    step = graph.batch or max(rows, 1)
    parts = []
    for start in range(0, rows, step):
        part = {name: values[start : start + step] for name, values in feeds.items()}
        try:
            parts.append(session.run([graph.output], part)[0])
        except Exception as error:
            raise SourceError(
                f"{graph.file.name} does not run: {' '.join(str(error).split())[:300]}"
            ) from error
    features = np.concatenate(parts).astype(np.float32)  # (B, D)
    if features.ndim != 2:
        raise SourceError(
            f"{graph.file.name}: `{graph.output}` has shape {features.shape}; it must be (B, D)"
        )
    vectors: Vectors = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return vectors
