"""The manifest: everything a program must know of a model besides its two graphs.

Frozen pydantic models. Unknown keys are errors, so that a typing slip cannot silently change how inputs are
prepared; a format that only a newer Nearlight knows is told apart from a damaged file.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from nearlight.bundle.errors import BundleCorrupt, BundleTooNew

FORMAT_VERSION = 1
# Stands for the space id until `nearlight.bundle.folder.write_bundle` has seen the files.
UNSEALED = "0" * 64

# A bare file name: a manifest can never point outside its folder.
FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
FileName = Annotated[str, Field(pattern=FILE_NAME)]
Channels = tuple[float, float, float]


class Section(BaseModel):
    """A frozen part of the manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ImagePreprocess(Section):
    """How a decoded RGB image becomes `size_px` x `size_px` pixels.

    Attributes:
        size_px: Side of the square input, pixels.
        resize: `shortest` scales the shortest side to `size_px`; `squash` ignores the aspect ratio.
        crop: `center` and `center_floor` keep the middle square after `shortest`: where half a pixel is left,
            the one rounds it to even, the other down; `none` keeps everything, after `squash`.
        interpolation: Filter of the resize; both are antialiased.
        resize_px: Side that `shortest` scales to where it is larger than the crop; None is `size_px`.
    """

    size_px: int = Field(ge=1, le=4096)
    resize: Literal["shortest", "squash"] = "shortest"
    crop: Literal["center", "center_floor", "none"] = "center"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    resize_px: int | None = Field(default=None, ge=1, le=4096)

    @model_validator(mode="after")
    def _modes_agree(self) -> "ImagePreprocess":
        wanted = "center" if self.resize == "shortest" else "none"
        if self.crop.partition("_")[0] != wanted:
            raise ValueError(f"resize={self.resize!r} needs crop={wanted!r}, not {self.crop!r}")
        if self.resize_px is not None and (self.resize != "shortest" or self.resize_px < self.size_px):
            raise ValueError(
                f"resize_px={self.resize_px} needs resize='shortest' and at least size_px={self.size_px}"
            )
        return self

    @property
    def scale_px(self) -> int:
        """The side that the image is scaled to before it is cropped."""
        return self.resize_px or self.size_px


class ImageTower(Section):
    """The image graph and its input. `mean` and `std` are for the reader: the graph applies them.

    `weights_file` holds what is too large for `file`, as ONNX's external data.
    """

    file: FileName = "image.onnx"
    weights_file: FileName | None = None
    preprocess: ImagePreprocess
    mean: Channels
    std: Channels


class TextTower(Section):
    """The text graph, its tokenizer and its sequence.

    Attributes:
        file: ONNX file, input `tokens`.
        weights_file: What is too large for `file`, as ONNX's external data.
        tokenizer_file: `tokenizers` JSON.
        context_length: Most tokens of one text, start and end token included.
        pad_id: Fills a row after its end token.
        sot_id: Start token put before every text; None puts none.
        eot_id: End token put after every text, kept when a text is cut; None puts none.
        trimmable: Whether cutting the padding after the longest text of a batch leaves every vector as is.
        clean: What is done to a text before `tokenizer_file`: open_clip's `lower`, `whitespace` or
            `canonicalize`; `none` when the normalizer of `tokenizer_file` does all.
    """

    file: FileName = "text.onnx"
    weights_file: FileName | None = None
    tokenizer_file: FileName = "tokenizer.json"
    context_length: int = Field(ge=2, le=65536)
    pad_id: int = Field(default=0, ge=0)
    sot_id: int | None = Field(default=None, ge=0)
    eot_id: int | None = Field(default=None, ge=0)
    trimmable: bool = False
    clean: Literal["lower", "whitespace", "canonicalize", "none"] = "lower"


class Towers(Section):
    """The encoders. Without a text tower the bundle embeds and searches by image only."""

    image: ImageTower
    text: TextTower | None = None


class Scoring(Section):
    """How a cosine becomes a probability.

    Attributes:
        kind: `softmax` over the labels (CLIP) or an independent `sigmoid` each (SigLIP).
        logit_scale: Factor of the cosine, already exponentiated.
        logit_bias: Added after the factor.
    """

    kind: Literal["softmax", "sigmoid"] = "softmax"
    logit_scale: float = Field(gt=0)
    logit_bias: float = 0.0


class Truncation(Section):
    """Vectors cut to their first numbers and scaled back to unit length, as tried when the bundle was made.

    Attributes:
        dim: Numbers kept.
        recall_at_10: Share of texts that find their image among the ten nearest; without captions, share of
            the ten nearest by whole vectors that cut ones find.
        whole_recall_at_10: The same of whole vectors.
        holds: Whether a server may give vectors of this length.
    """

    dim: int = Field(ge=1, le=65536)
    recall_at_10: float = Field(ge=0, le=1)
    whole_recall_at_10: float = Field(ge=0, le=1)
    holds: bool


class Manifest(Section):
    """`manifest.json`. `created` is in UTC, `dim` the length of a vector, `opset` that of both graphs.

    `golden` names the file of inputs with the vectors they must give, see `nearlight.bundle.golden`.
    """

    format_version: int = Field(default=FORMAT_VERSION, ge=1, le=FORMAT_VERSION)
    name: FileName
    created: str = Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
    licence: str = ""
    description: str = ""
    dim: int = Field(ge=1, le=65536)
    space_id: str = Field(default=UNSEALED, pattern=r"^[0-9a-f]{64}$")
    towers: Towers
    scoring: Scoring | None = None
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    opset: int = Field(ge=1)
    training: dict[str, JsonValue] = {}
    metrics: dict[str, JsonValue] = {}
    parity: dict[str, JsonValue] = {}
    golden: FileName | None = None
    truncations: tuple[Truncation, ...] = ()

    @model_validator(mode="after")
    def _text_needs_scoring(self) -> "Manifest":
        if self.towers.text is not None and self.scoring is None:
            raise ValueError("a bundle with a text tower needs `scoring`")
        return self

    def to_json(self) -> str:
        """The text of `manifest.json`: indented, keys in the order of the fields, one final newline."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Manifest":
        """The manifest in `text`.

        Raises:
            BundleTooNew: The format is newer than this program knows.
            BundleCorrupt: Not JSON, a missing or unknown key, a value outside its range.
        """
        document = _parse(text)
        version = document.get("format_version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise BundleTooNew(
                f"manifest.json has format_version {version}; this Nearlight reads up to {FORMAT_VERSION}:"
                " upgrade nearlight"
            )
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise BundleCorrupt(f"manifest.json: {_first_problem(error)}") from error


def _parse(text: str | bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BundleCorrupt(f"manifest.json is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise BundleCorrupt(f"manifest.json holds a {type(document).__name__}, not an object")
    return document


def _first_problem(error: ValidationError) -> str:
    """One line: where, what, and how many more."""
    problems = error.errors(include_url=False)
    where = ".".join(str(part) for part in problems[0]["loc"]) or "manifest"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{where}: {problems[0]['msg']}{more}"
