"""The model card says what the manifest says."""

from pydantic import JsonValue

from nearlight.bundle.folder import Bundle
from nearlight.bundle.manifest import Truncation
from nearlight.export.card import model_card


def test_the_card_of_a_bundle(full: Bundle) -> None:
    card = (full.path / "README.md").read_text(encoding="utf-8")
    for fact in (
        "# small-run",
        "Licence: not stated",
        "`nearlight export small --precision fp32`",
        "uint8 (B, 32, 32, 3)",
        "any length up to 16",
        "float32 (B, 48)",
        "softmax of 25 · cosine +0",
        "| zeroshot · photos · top1 | 12.5 |",
        "| image · min_cosine | 0.99999",
        "photos.parquet@2",
    ):
        assert fact in card, fact


def test_figures_of_use_and_speed(full: Bundle) -> None:
    card = (full.path / "README.md").read_text(encoding="utf-8")
    assert "| uses · text_to_image_overlap_at_10 |" in card
    assert "| uses · zero_shot_agreement |" in card
    assert "| image · rows_per_second |" in card
    assert "## Shorter vectors" not in card


def test_candidates_and_shorter_vectors(full: Bundle) -> None:
    tried: list[JsonValue] = [
        {"left_out": 0, "min_cosine": 0.99, "overlap_at_10": 0.9, "speed_ratio": 3.4},
        {"left_out": 1, "min_cosine": 0.997, "overlap_at_10": 0.98, "speed_ratio": 3.2},
    ]
    parity: dict[str, JsonValue] = {"image": {"int8": {"products": 9, "left_out": ["g1"], "tried": tried}}}
    cut = Truncation(dim=24, recall_at_10=0.91, whole_recall_at_10=0.92, holds=True)
    manifest = full.manifest.model_copy(update={"parity": parity, "truncations": (cut,)})
    card = model_card(manifest, "make it")
    assert "Of 9 matrix products" in card
    assert "| 1 | 0.997 | 0.98 | 3.2 |" in card
    assert "| 24 | 0.9100 | 0.9200 | yes |" in card


def test_notes_and_missing_figures(full: Bundle) -> None:
    manifest = full.manifest.model_copy(update={"metrics": {}, "licence": "MIT", "description": "Sees owls."})
    card = model_card(manifest, "make it", "Trained on **owls** only.\n")
    assert "Licence: MIT." in card
    assert "Sees owls." in card
    assert "Trained on **owls** only." in card
    assert "None recorded." in card
