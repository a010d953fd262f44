"""The parts of a run's configuration, with their units, ranges and defaults."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

IMAGENET_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGENET_STD = (0.26862954, 0.26130258, 0.27577711)


class Section(BaseModel):
    """A part of the configuration. Unknown keys are errors; values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelSection(Section):
    """The two towers, in open_clip's own terms."""

    architecture: str | None = None
    """One of open_clip's: its towers stand for `vision`, `text` and `embed_dim`."""
    embed_dim: int = Field(256, ge=8, le=4096)
    image_px: int = Field(64, ge=16, le=1024)
    vision: dict[str, Any] = Field(
        default_factory=lambda: {
            "timm_model_name": "nearlight_resnet10",
            "timm_pool": "avg",
            "timm_proj": "linear",
        }
    )
    """open_clip's CLIPVisionCfg, without image_size."""
    text: dict[str, Any] = Field(default_factory=lambda: {"width": 256, "heads": 4, "layers": 3})
    """open_clip's CLIPTextCfg, without context_length and vocab_size."""
    context_length: int = Field(32, ge=8, le=256)
    merges: int = Field(48894, ge=0, le=48894)
    """How many merges of CLIP's byte-pair vocabulary to keep; the first ones are the most frequent."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    max_logit_scale: float = Field(100.0, gt=1)


class DataSection(Section):
    """Where samples come from, and how they are held."""

    train: tuple[str, ...] = ()
    """Sources, each `PATH` or `PATH@weight`."""
    val: tuple[str, ...] = ()
    templates: str | None = None
    """A JSON file of prompt templates for class names; None means the built-in list."""
    cache_px: int = Field(80, ge=16, le=1024)
    """Decoded images are held with this side, before augmentation."""
    cache_limit_mb: int = Field(6144, ge=0)
    """Sources are decoded once and kept when they fit here together; else decoded batch by batch."""
    device_limit_mb: int = Field(4096, ge=0)
    """Kept images lie on the device, as uint8, when they fit here; else each batch travels there."""
    decode_threads: int = Field(2, ge=1, le=64)
    prefetch: int = Field(2, ge=1, le=64)


class AugmentSection(Section):
    """Random resized crop and flip, done on whole batches."""

    crop_scale: tuple[float, float] = (0.4, 1.0)
    crop_ratio: tuple[float, float] = (0.75, 4 / 3)
    flip: float = Field(0.5, ge=0, le=1)
    brightness: float = Field(0.0, ge=0, lt=1)
    contrast: float = Field(0.0, ge=0, lt=1)
    crop_px: tuple[int, int] | None = None
    """Side of the crops at the first and at the last step, in multiples of 8; None means image_px."""

    @model_validator(mode="after")
    def _ordered(self) -> "AugmentSection":
        for name in ("crop_scale", "crop_ratio"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} is ({low}, {high}); it must hold 0 < low <= high")
        return self


class OptimiserSection(Section):
    """The optimiser and its schedule. Biases and norms are neither decayed nor adapted by LARS."""

    name: Literal["adamw", "sgd", "lars", "rmsprop"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    lr_batch_size: int | None = Field(None, ge=1)
    """`lr` is that of a batch of this size, and grows in proportion; None: `lr` as it is."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Of sgd, lars and rmsprop."""
    trust: float = Field(0.001, gt=0)
    """LARS: a layer's step is this share of its weights' norm, times lr."""
    weight_decay: float = Field(0.1, ge=0)
    weight_decay_end: float | None = Field(None, ge=0)
    """Where a cosine takes the weight decay to by the last step; None: it stays."""
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = Field(1e-6, gt=0)
    warmup_steps: int = Field(100, ge=0)
    warmup_epochs: float | None = Field(None, ge=0)
    """Sets warmup_steps once the size of the training data is known."""
    schedule: Literal["cosine", "wsd"] = "cosine"
    """cosine: to zero over all steps; wsd: warm up, stay, decay linearly over the last `decay_share`."""
    decay_share: float = Field(0.3, gt=0, le=1)
    clip_grad_norm: float = Field(1.0, ge=0)
    """0 switches gradient clipping off."""


class EncoderSection(Section):
    """The image encoder of methods without a text tower."""

    name: str = "resnet18"
    """resnet10|18|34|50|101|200, vit-tiny|small|base, any model of timm, or `open_clip:ARCH[:WEIGHTS]`."""
    image_px: int = Field(32, ge=8, le=1024)
    stem: Literal["cifar", "small", "imagenet"] = "cifar"
    """Of a ResNet: 3x3 of stride 1; 3x3 of stride 2; 7x7 of stride 2 and a pooling."""
    width: float = Field(1.0, gt=0, le=8)
    """Of a ResNet: the factor of all its channels."""
    patch_px: int | None = Field(None, ge=1)
    """Of a ViT; None: an eighth of image_px, 16 at most."""
    pretrained: bool = False
    """Start from timm's public weights (they are downloaded)."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


class ViewSection(Section):
    """How one random view of an image is made; the operations come in this order."""

    count: int = Field(1, ge=1, le=64)
    """So many views are drawn alike."""
    side_px: int | None = Field(None, ge=8)
    """None: the encoder's image_px."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Share of the area."""
    crop_ratio: tuple[float, float] = (0.75, 4 / 3)
    flip: float = Field(0.5, ge=0, le=1)
    turn: float = Field(0.0, ge=0, le=1)
    """Probability of a turn by 90, 180 or 270 degrees."""
    policy: Literal["none", "randaugment", "autoaugment", "autoaugment-imagenet"] = "none"
    """A drawn series of operations; `autoaugment` is the policy found on CIFAR-10."""
    policy_operations: int = Field(2, ge=1, le=16)
    """Of randaugment: how many for each image."""
    policy_magnitude: float = Field(9.0, ge=0, le=30)
    """Of randaugment."""
    jitter: float = Field(0.0, ge=0, le=1)
    """Probability of the colour jitter; its four operations come in random order."""
    brightness: float = Field(0.4, ge=0, le=1)
    contrast: float = Field(0.4, ge=0, le=1)
    saturation: float = Field(0.4, ge=0, le=1)
    hue: float = Field(0.1, ge=0, le=0.5)
    grey: float = Field(0.0, ge=0, le=1)
    warp: float = Field(0.0, ge=0, le=1)
    """Probability of a smooth random warp."""
    warp_reach: float = Field(0.1, gt=0, le=0.5)
    """The farthest a pixel moves, as a share of the side."""
    blur: float = Field(0.0, ge=0, le=1)
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """In pixels of the view."""
    solarise: float = Field(0.0, ge=0, le=1)
    noise: float = Field(0.0, ge=0, le=1)
    noise_sigma: tuple[float, float] = (0.01, 0.1)
    """Of values of 0 to 1."""
    sobel: float = Field(0.0, ge=0, le=1)
    cutout: float = Field(0.0, ge=0, le=1)
    cutout_side: float = Field(0.5, gt=0, le=1)
    """Of the hole, as a share of the view's."""

    @model_validator(mode="after")
    def _ordered(self) -> "ViewSection":
        for name in ("crop_scale", "crop_ratio", "blur_sigma", "noise_sigma"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} is ({low}, {high}); it must hold 0 < low <= high")
        return self


class WatchSection(Section):
    """When a run is told to be collapsing."""

    every: int = Field(50, ge=1)
    """Steps between looks."""
    spread: float = Field(0.1, ge=0, le=1)
    """Warn below this share of the spread that unit vectors in all directions have, 1/sqrt(D)."""
    stop: bool = False
    """Stop the run at the third warning in a row instead of only warning."""


class RunConfig(Section):
    """All of one training run."""

    method: str = "clip"
    name: str = "run"
    """Of the bundle made of the run; as it is: the name of the run's folder."""
    steps: int = Field(1000, ge=1)
    epochs: float | None = Field(None, gt=0)
    """Sets steps once the size of the training data is known."""
    batch_size: int = Field(256, ge=2)
    chunk: int | None = Field(None, ge=1)
    """Samples encoded at a time, with the gradients of the whole batch; None: the whole batch."""
    seed: int = Field(0, ge=0)
    precision: Literal["fp32", "bf16"] = "bf16"
    compile: Literal["off", "default", "reduce-overhead", "aot_eager"] = "off"
    """torch.compile of the encoders and heads; `reduce-overhead` uses CUDA graphs, `aot_eager` traces."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Decay of a moving average of the weights, which is then what is evaluated and exported; 0: none."""
    device: str = "auto"
    log_every: int = Field(10, ge=1)
    checkpoint_every: int = Field(200, ge=1)
    curves: bool = True
    """Plot what was recorded to plots/curves.png at the end."""
    eval_every: int = Field(0, ge=0)
    """Steps between evaluations on `data.val`; 0 evaluates at the end only."""
    model: ModelSection = ModelSection()
    data: DataSection = DataSection()
    augment: AugmentSection = AugmentSection()
    optimiser: OptimiserSection = OptimiserSection()
    encoder: EncoderSection = EncoderSection()
    """Used by methods of images alone; `model` and `augment` by those of images and texts."""
    augmentation: (
        Literal["crop", "simclr", "autoaugment", "randaugment", "simaugment", "stacked-randaugment"] | None
    ) = None
    """Sets the operations of all views; crops and flips stay, and single keys of `views` come after it."""
    views: tuple[ViewSection, ...] = ()
    options: dict[str, Any] = Field(default_factory=dict)
    """What the method itself can be told; `nearlight train METHOD --help` lists it."""
    watch: WatchSection = WatchSection()


UNNAMED: str = RunConfig.model_fields["name"].default
