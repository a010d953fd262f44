"""ONNX towers that people already have, in the folder layouts of four makers, as a subject of export."""

import logging
from pathlib import Path

import numpy as np
import onnx

from nearlight.bundle.checksums import file_digest
from nearlight.bundle.clip_bpe import CLIP_MERGES
from nearlight.bundle.manifest import ImageTower, Scoring, TextTower
from nearlight.bundle.text import Tokenizer
from nearlight.export.choice import Choice
from nearlight.export.errors import SourceError
from nearlight.export.hf_tokenizer import HfTokenizer, open_hf_tokenizer
from nearlight.export.onnx_encoders import OnnxEncoders
from nearlight.export.onnx_graph import (
    ForeignGraph,
    constants,
    embedding_rows,
    image_tower,
    opset_of,
    read_graph,
    text_tower,
)
from nearlight.export.onnx_layouts import Layout, find_layout
from nearlight.export.subject import Subject
from nearlight.training.vocabulary import clip_tokenizer_json

CLIP_SCALE = 100.0  # where OpenAI's and nearly every CLIP since ended: the bound of its training

_TRIM_TEXTS = ("a", "a dog on the beach", "two children and an old red bicycle in front of a white wall .")
_TRIM_ERROR = 1e-5

_log = logging.getLogger(__name__)


def open_onnx(folder: Path, choice: Choice) -> Subject:
    """ONNX towers in a folder of transformers.js or optimum, Immich, or clip-as-service.

    Raises:
        SourceError: No known layout; a file is missing or damaged; graphs that a server should not run.
    """
    layout = find_layout(folder, choice)
    image_graph = image_tower(layout.image_file)
    text_graph, text, document = None, None, None
    if layout.text_file is not None:
        text_graph = text_tower(layout.text_file)
        text, document = _text(layout, text_graph, choice)
    for graph in (image_graph, text_graph):
        if graph is not None and graph.batch == 1:
            _log.warning("%s is fixed to one row a batch: it will run row by row", graph.file.name)
    _check_size(image_graph, layout.image)
    encoders = OnnxEncoders(image_graph, layout.image, text_graph, text)
    if text is not None and document is not None and text_graph is not None:
        text = text.model_copy(update={"trimmable": _trims_exactly(encoders, text_graph, document, text)})
        encoders = OnnxEncoders(image_graph, layout.image, text_graph, text)
    files = {layout.image_file.name: layout.image_file}
    if layout.text_file is not None:
        files[layout.text_file.relative_to(folder).as_posix()] = layout.text_file
    return Subject(
        encoders=encoders,
        name=_plain_name(folder),
        image=layout.image,
        text=text,
        tokenizer_json=document,
        scoring=_scoring(layout, choice) if text is not None else None,
        training={
            "kind": "onnx",
            "layout": layout.maker,
            "opset": opset_of(image_graph.model),
            "sha256": {name: file_digest(file) for name, file in files.items()},
        },
        made_with=f"onnx:{folder.resolve().name}",
    )


def _text(layout: Layout, graph: ForeignGraph, choice: Choice) -> tuple[TextTower, str]:
    rows = embedding_rows(graph)
    if layout.tokenizer is None:
        start = 512 + CLIP_MERGES
        tokenizer = HfTokenizer(clip_tokenizer_json(CLIP_MERGES), 0, start, start + 1)
        if rows is not None and rows <= start + 1:
            raise SourceError(f"{graph.file.name} embeds {rows} tokens; CLIP's vocabulary has {start + 2}")
    else:
        tokenizer = open_hf_tokenizer(choice.tokenizer or layout.tokenizer, rows or 1 << 31)
    fixed = int(graph.main.type.tensor_type.shape.dim[1].dim_value)
    text = TextTower.model_validate(
        {
            "context_length": fixed or layout.context_length,
            "pad_id": tokenizer.pad_id,
            "sot_id": tokenizer.sot_id,
            "eot_id": tokenizer.eot_id,
            "clean": layout.clean,
        }
    )
    return text, tokenizer.document


def _check_size(graph: ForeignGraph, image: ImageTower) -> None:
    side = image.preprocess.size_px
    sizes = [int(axis.dim_value) for axis in graph.main.type.tensor_type.shape.dim[2:]]
    if any(size not in (0, side) for size in sizes):
        raise SourceError(
            f"{graph.file.name} takes images of {sizes[1]}x{sizes[0]} px; its settings make {side}x{side} px"
        )


def _trims_exactly(encoders: OnnxEncoders, graph: ForeignGraph, document: str, text: TextTower) -> bool:
    """Whether a graph whose length varies gives the vectors of whole contexts when padding is cut."""
    if graph.main.type.tensor_type.shape.dim[1].dim_value:
        return False
    tokenizer = Tokenizer.load(document, text.model_copy(update={"trimmable": True}))
    whole = encoders.embed_texts(tokenizer.encode(_TRIM_TEXTS))
    try:
        cut = [encoders.embed_texts(tokenizer.encode([words], trim=True))[0] for words in _TRIM_TEXTS]
    except SourceError:
        return False  # it says that its length varies, and it does not
    return bool(np.abs(np.stack(cut) - whole).max() <= _TRIM_ERROR)


def _scoring(layout: Layout, choice: Choice) -> Scoring:
    """The user's numbers, else those of the file that holds both towers, else CLIP's usual scale."""
    whole = read_graph(layout.whole) if layout.whole else onnx.ModelProto()
    kept_scale, kept_bias = constants(whole, "logit_scale"), constants(whole, "logit_bias")
    scale = choice.logit_scale or (float(np.exp(kept_scale)) if kept_scale is not None else None)
    bias = choice.logit_bias if choice.logit_bias is not None else kept_bias
    if layout.sigmoid and (scale is None or bias is None):
        raise SourceError(
            "the ONNX files do not hold the scale and bias of a model trained with sigmoids; give"
            " --logit-scale and --logit-bias (exp of logit_scale, and logit_bias, of the original weights)"
        )
    if scale is None:
        _log.warning(
            "the ONNX files do not hold a logit scale; %g is taken, --logit-scale sets it", CLIP_SCALE
        )
    return Scoring(
        kind="sigmoid" if layout.sigmoid else "softmax",
        logit_scale=scale or CLIP_SCALE,
        logit_bias=bias or 0.0,
    )


def _plain_name(folder: Path) -> str:
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in folder.resolve().name)
    return kept.strip("-._") or "onnx"
