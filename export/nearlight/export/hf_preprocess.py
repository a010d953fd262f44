"""preprocessor_config.json of Hugging Face as the image section of a manifest."""

from typing import Any

from pydantic import ValidationError

from nearlight.bundle.manifest import ImagePreprocess, ImageTower
from nearlight.export.errors import SourceError

_FILTERS = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


def hf_image_tower(settings: dict[str, Any], default_px: int | None = None) -> ImageTower:
    """The image section from the settings of an image processor.

    Args:
        settings: Content of preprocessor_config.json.
        default_px: Side of the model's input, where the settings do not say.

    Raises:
        SourceError: Images that are not square, or a way to prepare them that Nearlight does not have.
    """
    resize = _side(settings.get("size"), default_px, "size")
    crop = _side(settings.get("crop_size"), resize, "crop_size")
    cropped = bool(settings.get("do_center_crop", "crop_size" in settings))
    scaled = settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 1.0
    if not settings.get("do_resize", True) or abs(scaled - 1 / 255) > 1e-6:
        raise SourceError(
            "preprocessor_config.json does not resize images, or scales pixels by other than 1/255:"
            f" do_resize={settings.get('do_resize', True)}, rescale_factor={scaled}"
        )
    squash = _is_squash(settings.get("size"))
    if squash and cropped and crop != resize:
        raise SourceError(
            f"preprocessor_config.json squashes images to {resize} px and crops {crop} px of them"
        )
    normal = settings.get("do_normalize", True)
    try:
        preprocess = ImagePreprocess.model_validate(
            {
                "size_px": crop if cropped else resize,
                "resize": "squash" if squash else "shortest",
                "crop": "none" if squash else "center_floor",
                "interpolation": _FILTERS.get(settings.get("resample", 3), settings.get("resample")),
                "resize_px": resize if cropped and not squash and resize != crop else None,
            }
        )
        return ImageTower(
            preprocess=preprocess,
            mean=tuple(settings["image_mean"]) if normal else (0.0, 0.0, 0.0),
            std=tuple(settings["image_std"]) if normal else (1.0, 1.0, 1.0),
        )
    except (ValidationError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise SourceError(f"preprocessor_config.json is not supported: {reason}") from error


def _side(size: Any, default: int | None, name: str) -> int:
    """One side in pixels of `{"shortest_edge": n}`, `{"height": n, "width": n}` or n."""
    if isinstance(size, dict):
        sides = {int(size[key]) for key in ("shortest_edge", "height", "width") if key in size}
        if len(sides) == 1:
            return sides.pop()
    elif isinstance(size, int):
        return size
    elif size is None and default is not None:
        return default
    raise SourceError(f"preprocessor_config.json has {name} {size}; only squares are supported")


def _is_squash(size: Any) -> bool:
    return isinstance(size, dict) and "height" in size
