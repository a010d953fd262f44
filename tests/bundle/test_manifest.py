"""What a manifest accepts, refuses and keeps."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from nearlight.bundle.errors import BundleCorrupt, BundleTooNew
from nearlight.bundle.manifest import FORMAT_VERSION, ImagePreprocess, Manifest, TextTower
from tests.bundle.conftest import manifest_of


def document(**changes: Any) -> dict[str, Any]:
    return {**json.loads(manifest_of().to_json()), **changes}


def test_json_and_back_is_the_same() -> None:
    manifest = manifest_of()
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert manifest.to_json().endswith("}\n")
    image_only = manifest_of(towers={"image": document()["towers"]["image"]}, scoring=None)
    assert Manifest.from_json(image_only.to_json()).towers.text is None


def test_a_newer_format_tells_both_versions() -> None:
    newer = document(format_version=FORMAT_VERSION + 6, something_new=1)
    with pytest.raises(BundleTooNew, match=r"format_version 7; this Nearlight reads up to 1: upgrade"):
        Manifest.from_json(json.dumps(newer))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "a list, not an object"),
        (b"\xff\xfe{}", "not JSON"),
        ("{}", r"name: Field required \(and \d+ more\)"),
    ],
)
def test_what_is_no_manifest(text: str | bytes, message: str) -> None:
    with pytest.raises(BundleCorrupt, match=message):
        Manifest.from_json(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dimm": 3}, "dimm: Extra inputs are not permitted"),
        ({"dim": 0}, "dim: .*greater than or equal to 1"),
        ({"dim": "8x"}, "dim: "),
        ({"format_version": 0}, "format_version: "),
        ({"format_version": "two"}, "format_version: "),
        ({"name": "../evil"}, "name: "),
        ({"name": ""}, "name: "),
        ({"created": "yesterday"}, "created: "),
        ({"space_id": "abc"}, "space_id: "),
        ({"precision": "bf16"}, "precision: "),
        ({"scoring": None}, "needs `scoring`"),
        ({"scoring": {"kind": "softmax", "logit_scale": 0}}, "logit_scale"),
        ({"scoring": {"kind": "maximum", "logit_scale": 1}}, "scoring.kind"),
        ({"scoring": {"kind": "softmax", "logit_scale": float("inf")}}, "logit_scale"),
    ],
)
def test_wrong_values_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleCorrupt, match=message):
        Manifest.from_json(json.dumps(document(**changes)))


@pytest.mark.parametrize(
    "name", ["../image.onnx", "/etc/passwd", "a/b.onnx", "a\\b", "..", ".hidden", "", "a\n", "é"]
)
@pytest.mark.parametrize("field", [("image", "file"), ("text", "file"), ("text", "tokenizer_file")])
def test_files_stay_in_their_folder(name: str, field: tuple[str, str]) -> None:
    wrong = document()
    wrong["towers"][field[0]][field[1]] = name
    with pytest.raises(BundleCorrupt, match=rf"towers\.{field[0]}\.{field[1]}"):
        Manifest.from_json(json.dumps(wrong))


def test_resize_and_crop_must_agree() -> None:
    assert ImagePreprocess(size_px=8, resize="squash", crop="none").crop == "none"
    with pytest.raises(ValidationError, match="resize='squash' needs crop='none'"):
        ImagePreprocess(size_px=8, resize="squash")
    with pytest.raises(ValidationError, match="resize='shortest' needs crop='center'"):
        ImagePreprocess(size_px=8, crop="none")


def test_models_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        TextTower.__setattr__(TextTower(context_length=8), "pad_id", 3)
